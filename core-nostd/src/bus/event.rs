//! What a kernel tells on its bus, in a form that does not change.
//!
//! Rules:
//! 1. There are four events and no more. Their names and fields are frozen: readers in other
//!    languages rely on them. (Source: the microkernel's contract, `KernelEvent` and its topics.)
//! 2. As text an event is one flat object with its variant in `type`; a field that is missing,
//!    unknown or another event's is refused. In binary encodings, which have no names, it is a plain
//!    enum.
//! 3. Everything is bounded. A name that is too long is refused, for it would name another; a reason
//!    that is too long is cut, for its beginning says the most.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::link::NAME_BYTES_MAX;

/// Longest reason of a crash, in bytes.
pub const REASON_BYTES_MAX: usize = 192;

/// The name of a service: a daemon, seen from the bus.
pub type ServiceName = heapless::String<NAME_BYTES_MAX>;

/// Why a service crashed.
pub type CrashReason = heapless::String<REASON_BYTES_MAX>;

/// The name is empty or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service's name has 1 to {NAME_BYTES_MAX} bytes, not {bytes}")]
pub struct ServiceNameError {
    /// How many bytes it has.
    pub bytes: usize,
}

/// What happened in a kernel.
///
/// ```
/// use duende_core::bus::KernelEvent;
///
/// let event = KernelEvent::service_crashed("web", "killed by SIGSEGV")?;
/// assert_eq!(event.topic(), "kernel.service.crashed");
/// # Ok::<(), duende_core::bus::ServiceNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum KernelEvent {
    /// A service began or ceased to be healthy.
    Health {
        /// Which one.
        service: ServiceName,
        /// Whether it is healthy now.
        ok: bool,
    },
    /// Another configuration is in force.
    ConfigUpdated {
        /// Counts the configurations.
        version: u64,
    },
    /// A service ended by a failure.
    ServiceCrashed {
        /// Which one.
        service: ServiceName,
        /// Why.
        reason: CrashReason,
    },
    /// Everything is about to stop.
    Shutdown,
}

impl KernelEvent {
    /// A service's health changed.
    ///
    /// # Errors
    /// [`ServiceNameError`].
    pub fn health(service: &str, ok: bool) -> Result<Self, ServiceNameError> {
        Ok(Self::Health { service: service_name(service)?, ok })
    }

    /// A service ended by a failure. A `reason` that is too long is cut at the end of a character.
    ///
    /// # Errors
    /// [`ServiceNameError`].
    pub fn service_crashed(service: &str, reason: &str) -> Result<Self, ServiceNameError> {
        let service = service_name(service)?;
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        let fits = reason.get(..end).and_then(|text| CrashReason::try_from(text).ok());
        Ok(Self::ServiceCrashed { service, reason: fits.unwrap_or_default() })
    }

    /// The topic under which it is told.
    #[must_use]
    pub const fn topic(&self) -> &'static str {
        match self {
            Self::Health { .. } => "kernel.health",
            Self::ConfigUpdated { .. } => "kernel.config.updated",
            Self::ServiceCrashed { .. } => "kernel.service.crashed",
            Self::Shutdown => "kernel.shutdown",
        }
    }
}

fn service_name(name: &str) -> Result<ServiceName, ServiceNameError> {
    let refusal = ServiceNameError { bytes: name.len() };
    if name.is_empty() {
        return Err(refusal);
    }
    ServiceName::try_from(name).map_err(|_| refusal)
}

/// An event as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    r#type: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<CrashReason>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Type {
    Health,
    ConfigUpdated,
    ServiceCrashed,
    Shutdown,
}

impl Flat {
    const fn new(r#type: Type) -> Self {
        Self { r#type, service: None, ok: None, version: None, reason: None }
    }

    /// None, if the fields are not those of the type.
    fn into_event(self) -> Option<KernelEvent> {
        let Self { r#type, service, ok, version, reason } = self;
        match (r#type, service, ok, version, reason) {
            (Type::Health, Some(service), Some(ok), None, None) if !service.is_empty() => {
                Some(KernelEvent::Health { service, ok })
            }
            (Type::ConfigUpdated, None, None, Some(version), None) => {
                Some(KernelEvent::ConfigUpdated { version })
            }
            (Type::ServiceCrashed, Some(service), None, None, Some(reason))
                if !service.is_empty() =>
            {
                Some(KernelEvent::ServiceCrashed { service, reason })
            }
            (Type::Shutdown, None, None, None, None) => Some(KernelEvent::Shutdown),
            _ => None,
        }
    }
}

impl From<&KernelEvent> for Flat {
    fn from(event: &KernelEvent) -> Self {
        match event.clone() {
            KernelEvent::Health { service, ok } => {
                Self { service: Some(service), ok: Some(ok), ..Self::new(Type::Health) }
            }
            KernelEvent::ConfigUpdated { version } => {
                Self { version: Some(version), ..Self::new(Type::ConfigUpdated) }
            }
            KernelEvent::ServiceCrashed { service, reason } => Self {
                service: Some(service),
                reason: Some(reason),
                ..Self::new(Type::ServiceCrashed)
            },
            KernelEvent::Shutdown => Self::new(Type::Shutdown),
        }
    }
}

impl Serialize for KernelEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Flat::from(self).serialize(serializer)
        } else {
            // The derived one, which `remote` makes an associated function.
            Self::serialize(self, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for KernelEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let refusal = "the fields of a kernel event are those of its type";
            let flat = Flat::deserialize(deserializer)?;
            flat.into_event().ok_or_else(|| serde::de::Error::custom(refusal))
        } else {
            Self::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    /// The texts of the contract, word by word, and back; and the same through the binary encoding.
    #[test]
    fn the_four_events_as_their_readers_see_them() {
        let long = "ü".repeat(REASON_BYTES_MAX);
        let cut = "ü".repeat(REASON_BYTES_MAX / 2);
        for (event, text, topic) in [
            (
                KernelEvent::health("svc-storage", true).unwrap(),
                r#"{"type":"Health","service":"svc-storage","ok":true}"#.into(),
                "kernel.health",
            ),
            (
                KernelEvent::ConfigUpdated { version: 42 },
                r#"{"type":"ConfigUpdated","version":42}"#.into(),
                "kernel.config.updated",
            ),
            (
                KernelEvent::service_crashed("svc-index", &long).unwrap(),
                format!(r#"{{"type":"ServiceCrashed","service":"svc-index","reason":"{cut}"}}"#),
                "kernel.service.crashed",
            ),
            (KernelEvent::Shutdown, r#"{"type":"Shutdown"}"#.into(), "kernel.shutdown"),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
            assert_eq!(serde_json::from_str::<KernelEvent>(&text).unwrap(), event);
            assert_eq!(event.topic(), topic);
            let mut memory = [0; 300];
            let bytes = postcard::to_slice(&event, &mut memory).unwrap();
            assert_eq!(postcard::from_bytes::<KernelEvent>(bytes).unwrap(), event);
        }
    }

    #[test]
    fn what_is_not_one_of_them_is_refused() {
        for text in [
            "{}",
            r#"{"type":"health","service":"a","ok":true}"#,
            r#"{"type":"Health","service":"a"}"#,
            r#"{"type":"Health","service":"","ok":true}"#,
            r#"{"type":"Health","service":"a","ok":true,"version":1}"#,
            r#"{"type":"Health","service":"a","ok":true,"more":1}"#,
            r#"{"type":"ConfigUpdated","version":-1}"#,
            r#"{"type":"ServiceCrashed","service":"a"}"#,
            r#"{"type":"Shutdown","reason":"b"}"#,
        ] {
            assert!(serde_json::from_str::<KernelEvent>(text).is_err(), "{text}");
        }
        let name = |bytes| String::from_iter(std::iter::repeat_n('n', bytes));
        for bytes in [0, NAME_BYTES_MAX + 1] {
            let refusal = Err(ServiceNameError { bytes });
            assert_eq!(KernelEvent::health(&name(bytes), true), refusal);
            assert_eq!(KernelEvent::service_crashed(&name(bytes), ""), refusal);
        }
        assert!(KernelEvent::health(&name(NAME_BYTES_MAX), false).is_ok());
    }
}
