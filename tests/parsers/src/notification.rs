//! What programs say of themselves: [`Notification`]. The input is a byte that says how many
//! descriptors come along, then the datagram.
//!
//! What is promised:
//! 1. What is ignored as a whole says nothing, and a barrier says nothing else.
//! 2. What is understood and said again, in any order, is the same.
//! 3. Lines of unknown names, and a NUL at the end, make no difference.
//! 4. A status is a line of the datagram.

use duende::notification::{DATAGRAM_BYTES_MAX, Ignored, Notification, Phase, Watchdog};

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((&descriptors, datagram)) = input.split_first() else { return };
    let descriptors = usize::from(descriptors);
    let notification = Notification::parse(datagram, descriptors);
    if notification.barrier {
        assert_eq!(notification, Notification { barrier: true, ..Notification::default() });
        assert_eq!(descriptors, 1);
        return;
    }
    match notification.ignored {
        Some(Ignored::TooLong) => assert!(datagram.len() > DATAGRAM_BYTES_MAX),
        Some(Ignored::Nul) => assert!(datagram.contains(&0)),
        Some(Ignored::BarrierWithMore | Ignored::BarrierDescriptors(_)) => {}
        _ => return check_parts(datagram, descriptors, &notification),
    }
    let ignored = notification.ignored.clone();
    assert_eq!(notification, Notification { ignored, ..Notification::default() });
}

fn check_parts(datagram: &[u8], descriptors: usize, notification: &Notification) {
    if let Some(status) = &notification.status {
        let line = format!("STATUS={status}");
        let lines = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        assert!(lines.split(|byte| *byte == b'\n').any(|found| found == line.as_bytes()));
    }
    if !datagram.ends_with(b"\0") {
        let more = [datagram, b"\nX_UNKNOWN=1\nREADY=no\n\0"].concat();
        if more.len() <= DATAGRAM_BYTES_MAX {
            assert_eq!(&Notification::parse(&more, descriptors), notification);
        }
    }
    let mut lines = said_again(notification);
    for _ in 0..2 {
        let again = Notification::parse(lines.join("\n").as_bytes(), notification.fdstore);
        assert_eq!(again, Notification { ignored: None, ..notification.clone() });
        lines.reverse();
    }
}

fn said_again(notification: &Notification) -> Vec<String> {
    let micros = |length: std::time::Duration| length.as_micros();
    let Notification { watchdog_timeout, extend_timeout, main_pid, errno, .. } = notification;
    let phase = notification.phase.map(|phase| match phase {
        Phase::Ready => "READY=1",
        Phase::Reloading => "RELOADING=1",
        Phase::Stopping => "STOPPING=1",
    });
    let watchdog = notification.watchdog.map(|watchdog| match watchdog {
        Watchdog::Alive => "WATCHDOG=1",
        Watchdog::Trigger => "WATCHDOG=trigger",
    });
    [
        phase.map(str::to_owned),
        watchdog.map(str::to_owned),
        watchdog_timeout.map(|length| format!("WATCHDOG_USEC={}", micros(length))),
        extend_timeout.map(|length| format!("EXTEND_TIMEOUT_USEC={}", micros(length))),
        main_pid.map(|pid| format!("MAINPID={pid}")),
        errno.map(|errno| format!("ERRNO={errno}")),
        notification.status.as_ref().map(|status| format!("STATUS={status}")),
        (notification.fdstore > 0).then(|| "FDSTORE=1".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
