//! "Did you mean": the known word nearest to a mistyped one, and lists of those that are known.

/// Most words of a list for people.
const LISTED_MAX: usize = 10;

/// Words for people, `a, b, c`; of many the first, and how many more there are.
pub(crate) fn listed<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    let mut words = words.into_iter();
    let first: Vec<&str> = words.by_ref().take(LISTED_MAX).collect();
    let list = first.join(", ");
    match words.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// The known word that is at most a third of its letters away from `word`, if there is one.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = plain(word);
    known
        .into_iter()
        .map(|candidate| {
            // `stop-grace` and `stopGrace` are `stop_grace`, however many letters that are.
            let is_same = !plain.is_empty() && self::plain(candidate) == plain;
            (if is_same { 0 } else { distance(word, candidate) }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "X"?`, or else `fallback`.
pub(crate) fn did_you_mean<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
    fallback: impl FnOnce() -> String,
) -> String {
    nearest(word, known).map_or_else(fallback, |candidate| format!("did you mean `{candidate}`?"))
}

/// The letters and digits of a word, in lower case.
fn plain(word: &str) -> String {
    let letters = word.chars().take(WORD_CHARS_MAX).filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Longest word that is compared, in characters: the cost grows with the square.
const WORD_CHARS_MAX: usize = 64;

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(WORD_CHARS_MAX).collect();
    let b: Vec<char> = b.chars().take(WORD_CHARS_MAX).collect();
    let mut before = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for j in 0..b.len() {
            let replaced = previous[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_stranger_is_not() {
        let known = ["command", "image", "isolation", "env", "user"];
        for (word, expected) in [
            ("comand", Some("command")),
            ("comamnd", Some("command")),
            ("isolatoin", Some("isolation")),
            ("evn", Some("env")),
            ("images", Some("image")),
            ("frobnicate", None),
            ("ENV", Some("env")),
            ("Iso-Lation", Some("isolation")),
            ("__", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn of_many_words_the_first_are_listed() {
        assert_eq!(listed([]), "");
        assert_eq!(listed(["a", "b"]), "a, b");
        let words = ["x"; LISTED_MAX];
        assert!(!listed(words).contains("more"));
        assert_eq!(
            listed(words.into_iter().chain(["y", "z"])),
            format!("{} and 2 more", words.join(", "))
        );
    }
}
