//! Keys by pages: those that start with a prefix and follow another, in byte order.

use alloc::{collections::BTreeMap, string::String};
use core::ops::Bound;

/// The entries whose keys start with `prefix` and are greater than `after`.
pub(crate) fn page<'a, V>(
    map: &'a BTreeMap<String, V>,
    prefix: &'a str,
    after: Option<&'a str>,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    map.range::<str, _>((from, Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec::Vec};

    #[test]
    fn keys_are_paged_in_byte_order_within_the_prefix() {
        let keys = ["a", "b/1", "b/2", "b/3", "c"];
        let map: BTreeMap<String, ()> = keys.map(|key| (key.to_string(), ())).into();
        let paged =
            |prefix, after| page(&map, prefix, after).map(|(key, ())| &**key).collect::<Vec<_>>();
        assert_eq!(paged("b/", None), ["b/1", "b/2", "b/3"]);
        assert_eq!(paged("b/", Some("b/2")), ["b/3"]);
        assert_eq!(paged("b/", Some("a")).len(), 3);
        assert!(paged("b/", Some("c")).is_empty());
        assert_eq!(paged("", None).len(), 5);
    }
}
