//! What `duende run` prints when its daemon is over: the metrics that it has published.
//!
//! As text, a name and a value to a line; with `--json` one document, `{"daemon", "metrics"}`, behind those of the
//! events. A daemon that published nothing has nothing printed of it.

use std::collections::BTreeMap;
use std::io;

use serde_json::json;

use super::output::{self, harmless};

/// The metrics of a daemon, by name.
pub type Metrics = BTreeMap<String, f64>;

/// Prints the figures of each daemon. A reader that closed the pipe has seen enough.
///
/// # Errors
/// Standard output can't be written.
pub fn print(daemons: &[(String, Metrics)], json: bool) -> io::Result<()> {
    for (name, metrics) in daemons.iter().filter(|(_, metrics)| !metrics.is_empty()) {
        let printed = if json {
            output::json_line(&json!({ "daemon": name, "metrics": metrics }))
        } else {
            output::painted(lines(metrics).trim_end())
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed?,
        }
    }
    Ok(())
}

fn lines(metrics: &Metrics) -> String {
    let mut table = output::Table::default();
    for (name, value) in metrics {
        table.row(vec![(harmless(name), None), (value.to_string(), None)]);
    }
    table.render(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other() {
        let metrics = [("rate_per_s", 0.5), ("requests_total", 5_000.0), ("a\x1b[2J", 1.0)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        let expected = "a\u{fffd}[2J           1\nrate_per_s      0.5\nrequests_total  5000\n";
        assert_eq!(lines(&metrics), expected);
    }
}
