//! What a name looks like, and the ids of users and groups.

use crate::platform::Surroundings;

use super::model::{NAME_BYTES_MAX, UserConfig};

/// Most supplementary groups of a process, as Linux has it (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// The form of a name, for messages.
pub(crate) const NAME_FORM: &str =
    "a name has 1 to 64 of `a-z 0-9 . _ -` and starts with a letter or digit";

/// The manager's own logs lie beside those of the daemons and have these names: what happened to the
/// fleet, and what a detached manager prints.
pub(super) const RESERVED_NAMES: [&str; 2] = ["duende", "manager"];

/// Whether a text is a name: `[a-z0-9][a-z0-9._-]{0,63}`. Such a text is also a safe file name.
pub(crate) fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= NAME_BYTES_MAX
        && text.as_bytes().first().is_some_and(alphanumeric)
        && text.bytes().all(|byte| alphanumeric(&byte) || b"._-".contains(&byte))
}

/// A user, from its name or number, with all its groups: those that list it as a member, and its
/// first. Only `/etc/passwd` and `/etc/group` are asked.
pub(super) fn user(surroundings: &Surroundings, wanted: &str) -> Option<Box<UserConfig>> {
    let table = surroundings.read("/etc/passwd")?;
    let found = entries(&table, wanted, 2).find_map(|fields| {
        let text = |index: usize, default: &str| match fields.get(index).copied() {
            Some("") | None => default.to_owned(),
            Some(text) => text.to_owned(),
        };
        let name = (*fields.first()?).to_owned();
        Some(Box::new(UserConfig {
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            groups: groups_of(surroundings, &name),
            name: Some(name),
            home: text(5, "/"),
            shell: text(6, "/bin/sh"),
        }))
    });
    // A number need not be in the table; its group is then the one of the same number.
    found.or_else(|| {
        let uid = wanted.parse().ok()?;
        let (home, shell) = ("/".to_owned(), "/bin/sh".to_owned());
        Some(Box::new(UserConfig { uid, gid: uid, groups: Vec::new(), name: None, home, shell }))
    })
}

/// The groups that list this user.
fn groups_of(surroundings: &Surroundings, user: &str) -> Vec<u32> {
    let table = surroundings.read("/etc/group").unwrap_or_default();
    let mut groups: Vec<u32> = table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|m| m == user)))
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(GROUPS_MAX);
    groups
}

/// A group's id, from its name or number. Only `/etc/group` is asked.
pub(super) fn group(surroundings: &Surroundings, wanted: &str) -> Option<u32> {
    let table = surroundings.read("/etc/group")?;
    let found = entries(&table, wanted, 2).find_map(|fields| fields.get(2)?.parse().ok());
    found.or_else(|| wanted.parse().ok())
}

/// The lines whose name, or whose id in field `id`, is `wanted`.
fn entries<'t>(table: &'t str, wanted: &'t str, id: usize) -> impl Iterator<Item = Vec<&'t str>> {
    table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(move |fields| fields.first() == Some(&wanted) || fields.get(id) == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        for (text, expected) in [
            ("web", true),
            ("0", true),
            ("a.b_c-d", true),
            (&"a".repeat(64), true),
            (&"a".repeat(65), false),
            ("", false),
            (".", false),
            ("..", false),
            ("-a", false),
            ("a/b", false),
            ("Web", false),
            ("wéb", false),
        ] {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
