//! How logs are rotated: each scheme as the steps that its program takes.

use std::path::{Path, PathBuf};

use duende_history::Draw;

use crate::disk::{Disk, Step};

/// What rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// logrotate: `log.1`, `log.2`, …
    Numbered,
    /// logrotate with `copytruncate`.
    CopyTruncate,
    /// logrotate with `dateext`: `log-20261127…`.
    Dated,
    /// The same with `extension .log`, or log4j's: the tag before the extension.
    DatedInside,
    /// log4j's fixed window: `app.1.log` is the newest.
    NumberedInside,
    /// log4j2's default: `app-1.log` is the oldest.
    Rising,
    /// s6-log, svlogd, multilog: `current` and `@…`.
    Stamped,
    /// logrotate with `compress`.
    Compressed,
    /// logrotate with `compress` and `delaycompress`, by zstd.
    DelayCompressed,
    /// cronolog: a link to a dated file.
    Swapped,
    /// savelog: hard links.
    Savelog,
    /// Kubernetes: a link to a file that is renamed, and compressed later.
    Container,
    /// One old generation.
    Old,
    /// `rm log`, and a new one.
    Deleted,
    /// Copied beside itself, then removed.
    CopyRemove,
    /// `sed -i` or rsync: a copy in its place, and then a real rotation.
    Replaced,
}

pub(crate) const SCHEMES: [Scheme; 16] = [
    Scheme::Numbered,
    Scheme::CopyTruncate,
    Scheme::Dated,
    Scheme::DatedInside,
    Scheme::NumberedInside,
    Scheme::Rising,
    Scheme::Stamped,
    Scheme::Compressed,
    Scheme::DelayCompressed,
    Scheme::Swapped,
    Scheme::Savelog,
    Scheme::Container,
    Scheme::Old,
    Scheme::Deleted,
    Scheme::CopyRemove,
    Scheme::Replaced,
];

const DIRECTORY: &str = "/var/log/app";

impl Scheme {
    /// What is followed.
    pub(crate) fn followed(self) -> PathBuf {
        match self {
            Self::Stamped => Path::new(DIRECTORY).join("current"),
            Self::Container => Path::new("/var/log/containers/app.log").to_owned(),
            _ => Path::new(DIRECTORY).join("app.log"),
        }
    }

    /// Whether its files can wait until others are read: names tell their order, and none is copied or
    /// compressed. Of files that wait only names and inodes are known.
    pub(crate) fn is_patient(self) -> bool {
        let changes = matches!(
            self,
            Self::CopyTruncate | Self::Compressed | Self::DelayCompressed | Self::Container
        );
        self.has_order() && !changes
    }

    /// Whether names alone tell the order of its files.
    pub(crate) const fn has_order(self) -> bool {
        match self {
            Self::Rising | Self::NumberedInside | Self::Old | Self::CopyRemove | Self::Replaced => {
                false
            }
            Self::Numbered
            | Self::CopyTruncate
            | Self::Dated
            | Self::DatedInside
            | Self::Stamped
            | Self::Compressed
            | Self::DelayCompressed
            | Self::Swapped
            | Self::Savelog
            | Self::Container
            | Self::Deleted => true,
        }
    }

    /// What was there before anybody wrote.
    pub(crate) fn prepare(self, disk: &mut Disk) {
        match self {
            Self::Container => {
                let link = Step::Point(self.followed(), format!("{DIRECTORY}/0.log").into());
                disk.step(link);
            }
            Self::Swapped => {
                let link =
                    Step::Point(self.followed(), format!("{DIRECTORY}/app-20260001.log").into());
                disk.step(link);
            }
            _ => {}
        }
        disk.step(Step::Reopen);
    }

    /// One rotation, the `turn`th: `keep` old files stay.
    pub(crate) fn rotate(
        self,
        disk: &Disk,
        turn: usize,
        keep: usize,
        draw: &mut Draw,
    ) -> Vec<Step> {
        let log = self.followed();
        let at = |name: String| Path::new(DIRECTORY).join(name);
        let numbered = |number: usize| at(format!("app.log.{number}"));
        let mut steps = Vec::new();
        let made = Step::Create(log.clone());
        match self {
            Self::Numbered | Self::CopyTruncate | Self::Compressed | Self::DelayCompressed => {
                let ending = match self {
                    Self::Compressed => ".gz",
                    Self::DelayCompressed => ".zst",
                    _ => "",
                };
                let name = |number: usize, packed: bool| {
                    at(format!("app.log.{number}{}", if packed { ending } else { "" }))
                };
                steps.push(Step::Unlink(name(keep, false)));
                steps.push(Step::Unlink(name(keep, true)));
                for number in (1..keep).rev() {
                    for packed in [false, true] {
                        if !ending.is_empty() || !packed {
                            steps
                                .push(Step::Rename(name(number, packed), name(number + 1, packed)));
                        }
                    }
                }
                if self == Self::CopyTruncate {
                    steps.push(Step::Copy(log.clone(), numbered(1)));
                    steps.push(Step::Truncate(log));
                    return steps;
                }
                steps.push(Step::Rename(log, numbered(1)));
                steps.push(made);
                steps.push(Step::Reopen);
                let packs = match self {
                    Self::Compressed => Some(1),
                    Self::DelayCompressed => Some(2),
                    _ => None,
                };
                if let Some(number) = packs {
                    steps.push(Step::Compressing(name(number, false), name(number, true)));
                    steps.push(Step::Compressed(name(number, false), name(number, true)));
                }
            }
            Self::Dated | Self::DatedInside => {
                let name = |turn: usize| match self {
                    Self::Dated => at(format!("app.log-2026{turn:04}")),
                    _ => at(format!("app-2026{turn:04}.log")),
                };
                steps.push(Step::Rename(log, name(turn)));
                steps.push(made);
                steps.push(Step::Reopen);
                steps.extend(turn.checked_sub(keep).map(|old| Step::Unlink(name(old))));
            }
            Self::NumberedInside => {
                let name = |number: usize| at(format!("app.{number}.log"));
                steps.push(Step::Unlink(name(keep)));
                steps.extend(
                    (1..keep).rev().map(|number| Step::Rename(name(number), name(number + 1))),
                );
                steps.push(Step::Rename(log, name(1)));
                steps.push(Step::Reopen);
            }
            Self::Rising => {
                steps.push(Step::Rename(log, at(format!("app-{turn}.log"))));
                steps.push(Step::Reopen);
                let old = turn.checked_sub(keep);
                steps.extend(old.map(|old| Step::Unlink(at(format!("app-{old}.log")))));
            }
            Self::Stamped => {
                let name = |turn: usize| at(format!("@40000000{:016x}.s", turn * 77));
                // svlogd renames at once.
                if turn.is_multiple_of(2) {
                    steps.push(Step::Rename(log, name(turn)));
                    steps.push(Step::Reopen);
                } else {
                    let previous = at("previous".to_owned());
                    steps.push(Step::Rename(log, previous.clone()));
                    steps.push(Step::Reopen);
                    steps.push(Step::HardLink(previous.clone(), name(turn)));
                    steps.push(Step::Unlink(previous));
                }
                steps.extend(turn.checked_sub(keep).map(|old| Step::Unlink(name(old))));
            }
            Self::Swapped => {
                let name = |turn: usize| at(format!("app-2026{:04}.log", turn + 1));
                steps.push(Step::Create(name(turn)));
                steps.push(Step::Point(log, name(turn)));
                steps.push(Step::Reopen);
                steps.extend(turn.checked_sub(keep).map(|old| Step::Unlink(name(old))));
            }
            Self::Savelog => {
                steps.push(Step::Unlink(numbered(keep)));
                steps.extend(
                    (0..keep)
                        .rev()
                        .map(|number| Step::Rename(numbered(number), numbered(number + 1))),
                );
                steps.push(Step::HardLink(log.clone(), numbered(0)));
                steps.push(Step::Create(at("app.log.new".to_owned())));
                steps.push(Step::Rename(at("app.log.new".to_owned()), log));
                steps.push(Step::Reopen);
            }
            Self::Container => {
                let name = |turn: usize| at(format!("0.log.20261127-{turn:06}"));
                let packed = |turn: usize| at(format!("0.log.20261127-{turn:06}.gz"));
                if turn > 1 {
                    steps.push(Step::Compressing(name(turn - 1), packed(turn - 1)));
                    steps.push(Step::Compressed(name(turn - 1), packed(turn - 1)));
                }
                steps.push(Step::Rename(at("0.log".to_owned()), name(turn)));
                steps.push(Step::Create(at("0.log".to_owned())));
                steps.push(Step::Reopen);
                if let Some(old) = turn.checked_sub(keep) {
                    steps.extend([name(old), packed(old)].map(Step::Unlink));
                }
            }
            Self::Old => {
                steps.push(Step::Rename(log, at("app.log.old".to_owned())));
                steps.push(Step::Reopen);
            }
            Self::Deleted => {
                steps.push(Step::Unlink(log));
                steps.push(Step::Reopen);
            }
            Self::CopyRemove => {
                steps.push(Step::SetAside(log, at(format!("app.log-2026{turn:04}"))));
            }
            Self::Replaced if draw.once_in(2) => {
                steps.push(Step::Replace(log));
                steps.push(Step::Reopen);
            }
            Self::Replaced => {
                steps.push(Step::Rename(log, at(format!("app.log-2026{turn:04}"))));
                steps.push(made);
                steps.push(Step::Reopen);
            }
        }
        let _ = disk;
        steps
    }
}
