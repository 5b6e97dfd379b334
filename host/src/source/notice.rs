//! What a reader of the channel cannot see is told: nothing is skipped, repeated or cut in silence.

use std::{collections::VecDeque, fmt};

use super::ITEM_BYTES_MAX;

/// Most notices kept until they are taken; further ones are counted.
pub const NOTICES_MAX: usize = 64;

/// Something that happened to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another file has the name; what had it is read to its end.
    Rotated,
    /// The file became shorter, or its content another, and everything that is known of what it held is
    /// read, perhaps from a copy; what was written between the copy and the emptying, if anything, is not
    /// known. It is read from its beginning.
    Truncated {
        /// How much it held, as far as that is known.
        offset_bytes: u64,
    },
    /// The file lost what lies behind a place before which it is as it was; it is read from there on.
    Cut {
        /// How far it had been read.
        offset_bytes: u64,
        /// Its length now.
        size_bytes: u64,
    },
    /// Lines were lost.
    Gap(Gap),
    /// A line longer than [`ITEM_BYTES_MAX`] is delivered in pieces.
    LineTooLong {
        /// Where in the file the line starts; for standard input, always 0.
        offset_bytes: u64,
    },
    /// The file ended within a line and will not be continued; the line was delivered as it is.
    LineUnfinished {
        /// Its length.
        length_bytes: u64,
    },
    /// It cannot be read now; it is tried again.
    Unreadable {
        /// What is wrong.
        reason: String,
    },
    /// What could not be read is read.
    Readable,
    /// Changes of the file cannot be watched; it is looked at once a second.
    Polling {
        /// Why.
        reason: String,
    },
    /// Notices that were not taken in time.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// What was lost, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// A file is gone before it was read to its end, under every name and in every form.
    Gone {
        /// How far it had been read.
        offset_bytes: u64,
    },
    /// A file was emptied, or written anew, before it was read to its end, and there is no copy of it.
    Emptied {
        /// How far it had been read.
        offset_bytes: u64,
        /// How much of it was seen and not read; none if nobody looked before.
        unread_bytes: Option<u64>,
    },
    /// A rotated file cannot be read.
    Unread {
        /// Its name.
        name: String,
        /// Its size as it lies there.
        bytes: u64,
        /// Why not.
        reason: String,
    },
    /// Files that waited until others were read are not there any more.
    Crowd {
        /// How many.
        files: u64,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { offset_bytes } => write!(
                f,
                "1 file is gone after it had been read up to byte {offset_bytes}: what followed in it, if anything, is lost"
            ),
            Self::Emptied { offset_bytes, unread_bytes: Some(bytes) } => write!(
                f,
                "{bytes} bytes are lost: the file was emptied after it had been read up to byte {offset_bytes}; reading it from its beginning"
            ),
            Self::Emptied { offset_bytes, unread_bytes: None } => write!(
                f,
                "the file was emptied while nobody looked, after it had been read up to byte {offset_bytes}: what followed then, if anything, is lost; reading it from its beginning"
            ),
            Self::Unread { name, bytes, reason } => {
                write!(f, "1 file of {bytes} bytes is not read: {name}: {reason}")
            }
            Self::Crowd { files } => {
                let (are, were) =
                    if *files == 1 { ("file is", "was") } else { ("files are", "were") };
                write!(f, "{files} {are} gone, or {were} compressed, while others were read before")
            }
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotated => write!(f, "the file was rotated"),
            Self::Truncated { offset_bytes } => write!(
                f,
                "the file was truncated; all of the {offset_bytes} bytes that were seen of it are read: reading from its beginning"
            ),
            Self::Cut { offset_bytes, size_bytes } => write!(
                f,
                "the file was cut to {size_bytes} bytes after it had been read up to byte {offset_bytes}: reading what follows"
            ),
            Self::Gap(gap) => gap.fmt(f),
            Self::LineTooLong { offset_bytes } => write!(
                f,
                "the line at byte {offset_bytes} is longer than {ITEM_BYTES_MAX} bytes: delivered in pieces"
            ),
            Self::LineUnfinished { length_bytes } => write!(
                f,
                "the rotated file ends within a line of {length_bytes} bytes: delivered as it is"
            ),
            Self::Unreadable { reason } => write!(f, "{reason}: waiting until it can be read"),
            Self::Readable => write!(f, "the file is read now"),
            Self::Polling { reason } => {
                write!(f, "the file cannot be watched ({reason}): looking at it once a second")
            }
            Self::Dropped { count } => write!(f, "{count} more notices"),
        }
    }
}

/// The notices that were not taken yet, at most [`NOTICES_MAX`].
#[derive(Debug, Default)]
pub struct Notices {
    kept: VecDeque<Notice>,
    dropped: u64,
}

impl Notices {
    pub(super) fn push(&mut self, notice: Notice) {
        // A gap is never left out for the sake of what is only of interest.
        let is_gap = matches!(notice, Notice::Gap(_));
        if self.kept.len() < NOTICES_MAX {
            self.kept.push_back(notice);
        } else if is_gap
            && let Some(other) = self.kept.iter().position(|kept| !matches!(kept, Notice::Gap(_)))
        {
            self.kept.remove(other);
            self.kept.push_back(notice);
            self.dropped = self.dropped.saturating_add(1);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// What others have told comes after what was.
    #[cfg(feature = "manager")]
    pub(super) fn append(&mut self, others: Self) {
        others.kept.into_iter().for_each(|notice| self.push(notice));
        self.dropped = self.dropped.saturating_add(others.dropped);
    }

    /// Those that there are, and how many there were besides.
    pub fn take(&mut self) -> Vec<Notice> {
        let count = std::mem::take(&mut self.dropped);
        let dropped = (count > 0).then_some(Notice::Dropped { count });
        self.kept.drain(..).chain(dropped).collect()
    }

    /// Everything ever pushed and not taken.
    #[cfg(feature = "manager")]
    pub(super) fn count(&self) -> u64 {
        self.dropped.saturating_add(self.kept.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_before_what_is_only_of_interest() {
        let mut notices = Notices::default();
        for _ in 0..NOTICES_MAX + 2 {
            notices.push(Notice::Rotated);
        }
        let gap = Notice::Gap(Gap::Gone { offset_bytes: 1 });
        notices.push(gap.clone());
        let taken = notices.take();
        assert!(taken.contains(&gap));
        assert_eq!(taken.last(), Some(&Notice::Dropped { count: 3 }));
        assert!(notices.take().is_empty());
    }
}
