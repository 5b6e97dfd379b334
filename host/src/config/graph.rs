//! What the daemons of a fleet demand of each other: unique names, known dependencies, no cycle, and
//! one reader of standard input.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use duende_core::supervise::DEPENDENCIES_MAX;

use super::diagnostic::{Place, Report};
use super::groups::Groups;
use super::model::{DaemonConfig, Isolation, Source};
use super::suggest::did_you_mean;

/// A daemon, and the places that problems with its relations point to.
pub(super) struct Draft {
    pub(super) config: DaemonConfig,
    pub(super) name_span: Range<usize>,
    /// What stands for all of it: its header, or its braces.
    pub(super) span: Range<usize>,
    /// The names in `depends_on`, each with its place.
    pub(super) depends_on: Vec<(String, Range<usize>)>,
    /// The name in `member_of`, and its place.
    pub(super) member_of: Option<(String, Range<usize>)>,
    /// Where a channel is fed from standard input.
    pub(super) stdin_span: Option<Range<usize>>,
}

/// Resolves the relations. The result is meaningful only if nothing was reported.
pub(super) fn resolve(
    drafts: Vec<Draft>,
    groups: &Groups,
    source: &str,
    report: &mut Report<'_>,
) -> Vec<DaemonConfig> {
    let mut index_of: HashMap<String, usize> = HashMap::new();
    let mut stdin_reader: Option<&Draft> = None;
    let mut pid_file_of: HashMap<&Path, &str> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let name = &draft.config.name;
        if let Isolation::Native(native) = &draft.config.isolation
            && let Some(path) = &native.pid_file
            && let Some(first) = pid_file_of.insert(path, name)
        {
            report.add(
                &draft.name_span,
                &format!("daemon.{name}.pid_file"),
                format!("`{first}` has the same file"),
                "give each daemon a file of its own",
            );
        }
        if name.is_empty() {
            // That it has none was said.
        } else if let Some(&first) = index_of.get(name) {
            let line = Place::new(source, &drafts[first].name_span).line;
            let (one, other) = (report.point(&drafts[first].span), report.point(&draft.span));
            report.add_value(
                &draft.name_span,
                &format!("daemon.{name}.name"),
                format!("duplicate name: line {line} has a daemon of the same name"),
                format!("give each its own: those of this name begin at {one} and {other}"),
            );
        } else {
            index_of.insert(name.clone(), index);
        }
        if let Some(span) = &draft.stdin_span {
            if let Some(first) = stdin_reader {
                report.add(
                    span,
                    &format!("daemon.{name}.channel"),
                    format!("`{}` reads standard input already", first.config.name),
                    "feed one channel from standard input",
                );
            }
            stdin_reader = stdin_reader.or(Some(draft));
        }
        let stdin_channels =
            draft.config.channels.iter().filter(|channel| channel.source == Source::Stdin).count();
        if stdin_channels > 1 {
            report.add(
                &draft.name_span,
                &format!("daemon.{name}.channel"),
                "more than one channel reads standard input",
                "feed one channel from standard input",
            );
        }
    }

    let mut names: Vec<&str> = index_of.keys().map(String::as_str).collect();
    names.sort_unstable();
    let edges: Vec<Vec<Option<usize>>> = drafts
        .iter()
        .map(|draft| {
            let key = format!("daemon.{}.depends_on", draft.config.name);
            if let Some((_, span)) = draft.depends_on.get(DEPENDENCIES_MAX) {
                let message = format!("more than {DEPENDENCIES_MAX} dependencies");
                report.add_value(span, &key, message, "depend on one that depends on the others");
            }
            let mut indices = Vec::with_capacity(draft.depends_on.len());
            for (wanted, span) in &draft.depends_on {
                let index = index_of.get(wanted).copied();
                if index.is_none() {
                    // Every name is compared: only for what is shown.
                    let known = if report.only_counts(span) { &[][..] } else { &names };
                    let help = did_you_mean(wanted, known.iter().copied(), || {
                        format!("add a [[daemon]] with name = \"{wanted}\", or remove it here")
                    });
                    report.add_value(span, &key, format!("no daemon is named `{wanted}`"), help);
                }
                indices.push(index);
            }
            indices
        })
        .collect();
    report_cycles(&drafts, &edges, report);

    let resolved = drafts.into_iter().zip(edges);
    resolved
        .map(|(draft, edges)| {
            let mut depends_on: Vec<usize> = edges.into_iter().flatten().collect();
            depends_on.sort_unstable();
            depends_on.dedup();
            let member_of = draft.member_of.and_then(|(name, span)| {
                let key = format!("daemon.{}.member_of", draft.config.name);
                groups.find(&name, &span, &key, report)
            });
            DaemonConfig { depends_on, member_of, ..draft.config }
        })
        .collect()
}

/// Reports each cycle once, at the entry that closes it. Without recursion: a chain of dependencies
/// is as long as a file allows.
fn report_cycles(drafts: &[Draft], edges: &[Vec<Option<usize>>], report: &mut Report<'_>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let mut marks = vec![Mark::New; drafts.len()];
    for root in 0..drafts.len() {
        if marks[root] != Mark::New {
            continue;
        }
        // Each step: a daemon, and which of its dependencies is looked at next.
        let mut path = vec![(root, 0)];
        marks[root] = Mark::OnPath;
        while let Some((daemon, next)) = path.last_mut() {
            let (daemon, position) = (*daemon, *next);
            *next += 1;
            let Some(edge) = edges[daemon].get(position) else {
                marks[daemon] = Mark::Done;
                path.pop();
                continue;
            };
            let Some(target) = *edge else { continue };
            match marks[target] {
                Mark::New => {
                    marks[target] = Mark::OnPath;
                    path.push((target, 0));
                }
                Mark::Done => {}
                Mark::OnPath => {
                    let start = path.iter().position(|(step, _)| *step == target).unwrap_or(0);
                    let mut names: Vec<&str> = path[start..]
                        .iter()
                        .map(|(step, _)| drafts[*step].config.name.as_str())
                        .collect();
                    names.push(&drafts[target].config.name);
                    report.add_value(
                        &drafts[daemon].depends_on[position].1,
                        &format!("daemon.{}.depends_on", drafts[daemon].config.name),
                        format!("cycle: {}", names.join(" -> ")),
                        "remove one of these dependencies",
                    );
                }
            }
        }
    }
}
