//! Reads `[[group]]`: daemons that are restarted together, and the tree that they form.

use std::collections::HashMap;
use std::ops::Range;

use duende_core::limiter::RestartLimit;
use duende_core::supervise::{GroupSpec, Strategy};

use super::diagnostic::Report;
use super::model::{DAEMONS_MAX, GroupConfig};
use super::names::{NAME_FORM, is_name};
use super::reader::{Entry, Section};
use super::reading::FROM_ZERO;
use super::recovery::INTENSITY;
use super::schema::Table;
use super::suggest::did_you_mean;

const STRATEGIES: [(&str, Strategy); 3] = [
    ("one-for-one", Strategy::OneForOne),
    ("one-for-all", Strategy::OneForAll),
    ("rest-for-one", Strategy::RestForOne),
];

/// A group, and what its problems point to.
struct Draft {
    config: GroupConfig,
    name_span: Range<usize>,
    /// The name in `parent`, and its place.
    parent: Option<(String, Range<usize>)>,
}

/// The groups, each after its parent.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) configs: Vec<GroupConfig>,
}

impl Groups {
    /// Reads all groups.
    pub(super) fn read(entry: &Entry<'_>, report: &mut Report<'_>) -> Self {
        if entry.value.is_table() {
            let message = "one table, where a list of tables belongs";
            let help = "write [[group]], with two brackets on each side";
            report.add(&entry.key_span, &entry.path, message, help);
            return Self::default();
        }
        let elements = entry.elements(report, "[]").unwrap_or_default();
        let drafts = elements
            .iter()
            .take(DAEMONS_MAX)
            .filter_map(|element| element.section(Table::Group, report, "{ name = \"pair\" }"))
            .collect::<Vec<_>>();
        let drafts: Vec<Draft> = drafts.into_iter().map(|section| read(section, report)).collect();
        Self { configs: parents_first(&drafts, report) }
    }

    /// The group of this name; a name that none has is reported.
    pub(super) fn find(
        &self,
        name: &str,
        span: &Range<usize>,
        key: &str,
        report: &mut Report<'_>,
    ) -> Option<usize> {
        let found = self.configs.iter().position(|group| group.name == name);
        if found.is_none() {
            let names = self.configs.iter().map(|group| group.name.as_str());
            let help = did_you_mean(name, names, || {
                format!("add a [[group]] with name = \"{name}\", or remove it here")
            });
            report.add_value(span, key, format!("no group is named `{name}`"), help);
        }
        found
    }
}

fn read(mut section: Section<'_>, report: &mut Report<'_>) -> Draft {
    "group".clone_into(&mut section.path);
    let entry = section.take("name");
    let name_span = entry.as_ref().map_or(section.span.clone(), |entry| entry.span.clone());
    let name = match &entry {
        None => {
            let help = "add:  name = \"pair\"";
            section.miss(report, "name", "this key is missing", help);
            None
        }
        Some(entry) => entry.string(report).inspect(|name| {
            if !is_name(name) {
                entry.report(report, format!("`{name}` is not a name"), NAME_FORM);
            }
        }),
    };
    // Whoever names one that is no name has said nothing wrong.
    if let Some(name) = name.filter(|name| is_name(name)) {
        section.path = format!("group.{name}");
    }
    let default = GroupSpec::default();
    let strategy = section.take("strategy").and_then(|entry| entry.word(report, &STRATEGIES));
    let restarts =
        section.take("restarts").and_then(|entry| entry.integer_u32(report, 0..=INTENSITY));
    let period = section.take("period").and_then(|entry| entry.duration(report, FROM_ZERO));
    let parent = section
        .take("parent")
        .and_then(|entry| Some((entry.string(report)?.to_owned(), entry.span.clone())));
    section.finish(report);
    let config = GroupConfig {
        name: name.unwrap_or_default().to_owned(),
        strategy: strategy.unwrap_or(default.strategy),
        limit: RestartLimit {
            intensity: restarts.unwrap_or(default.limit.intensity),
            period: period.unwrap_or(default.limit.period),
            window: default.limit.window,
        },
        parent: None,
    };
    Draft { config, name_span, parent }
}

/// Orders groups so that each one's parent is before it. Names that are there twice, parents that are
/// not there and circles are reported.
fn parents_first(drafts: &[Draft], report: &mut Report<'_>) -> Vec<GroupConfig> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let name = draft.config.name.as_str();
        if !name.is_empty() && names.insert(name, index).is_some() {
            let key = format!("group.{name}.name");
            let help = "give each group its own name";
            report.add_value(&draft.name_span, &key, "duplicate name", help);
        }
    }
    // By the index of the draft: where it is in the order.
    let mut places: Vec<Option<usize>> = vec![None; drafts.len()];
    let mut order: Vec<GroupConfig> = Vec::with_capacity(drafts.len());
    let mut open: Vec<usize> = (0..drafts.len()).collect();
    loop {
        let before = open.len();
        open.retain(|index| {
            let Some(draft) = drafts.get(*index) else { return false };
            let parent = match &draft.parent {
                None => None,
                Some((name, _)) => match names.get(name.as_str()) {
                    None => None,
                    Some(parent) => match places.get(*parent).copied().flatten() {
                        Some(place) => Some(place),
                        None => return true,
                    },
                },
            };
            if let Some(place) = places.get_mut(*index) {
                *place = Some(order.len());
            }
            order.push(GroupConfig { parent, ..draft.config.clone() });
            false
        });
        if open.is_empty() || open.len() == before {
            break;
        }
    }
    for draft in drafts {
        let Some((parent, span)) = &draft.parent else { continue };
        let key = format!("group.{}.parent", draft.config.name);
        if !names.contains_key(parent.as_str()) {
            let help = did_you_mean(parent, names.keys().copied(), || {
                format!("add a [[group]] with name = \"{parent}\", or remove it here")
            });
            report.add_value(span, &key, format!("no group is named `{parent}`"), help);
        }
    }
    // What is left waits for itself, or for one that does.
    if let Some((parent, span)) = open.first().and_then(|index| drafts.get(*index)?.parent.as_ref())
    {
        let message = format!("a group is its own parent, by way of `{parent}`");
        report.add_value(span, "group.parent", message, "remove one of these parents");
    }
    order
}
