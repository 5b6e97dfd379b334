//! Histories: lists of numbers that a simulator plays, drawn from a seed, shrunk when something goes wrong, and
//! played again from a command line. Of what is simulated it knows nothing.

mod draw;
mod program;

pub use draw::Draw;
pub use program::Program;

/// What went wrong.
pub type Fault = String;

/// A history that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The shortest history found.
    pub history: Vec<u64>,
    /// What went wrong in it.
    pub fault: Fault,
}

/// Leaves out steps as long as something goes wrong, perhaps something else. `play` says what goes wrong in a
/// history; its first number draws the world, and stays.
pub fn shrink(
    mut history: Vec<u64>,
    mut fault: Fault,
    play: impl Fn(&[u64]) -> Result<u64, Fault>,
) -> Failure {
    let mut length = history.len() / 2;
    while length > 0 {
        let mut from = 1;
        while from < history.len() {
            let mut shorter = history.clone();
            shorter.drain(from..(from + length).min(history.len()));
            if let Err(found) = play(&shorter) {
                (history, fault) = (shorter, found);
            } else {
                from += length;
            }
        }
        length /= 2;
    }
    Failure { history, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left is what the fault needs, and the number that draws the world.
    #[test]
    fn a_history_is_shrunk_to_what_its_fault_needs() {
        let play = |history: &[u64]| match history.iter().filter(|step| **step % 10 == 7).count() {
            needed if needed >= 3 => Err(format!("{needed} sevens")),
            _ => Ok(0),
        };
        let mut draw = Draw::new(1);
        let history: Vec<u64> = (0..200).map(|_| draw.word()).collect();
        let fault = play(&history).unwrap_err();
        let Failure { history: shrunk, fault } = shrink(history.clone(), fault, play);
        assert_eq!((shrunk[0], fault.as_str()), (history[0], "3 sevens"));
        assert_eq!(shrunk.len(), 3 + usize::from(history[0] % 10 != 7));
    }
}
