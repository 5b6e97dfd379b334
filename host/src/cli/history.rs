//! `duende history`: what a daemon used and did.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::control::client::{ClientError, unexpected};
use crate::control::protocol::{HistorySample, Request, Response};
use crate::platform::Surroundings;

use super::args::Which;
use super::error::CliError;
use super::exit_code::ExitCode;
use super::output::{self, Table, harmless};
use super::verbs::connect;

pub(super) fn history(
    name: &str,
    last: Duration,
    which: &Which,
    json: bool,
    at: &Surroundings,
) -> Result<ExitCode, CliError> {
    let mut client = connect(which, at)?;
    let last_ms = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
    let mut figures: BTreeMap<String, Vec<HistorySample>> = BTreeMap::new();
    let mut sampling = json!(null);
    let request = Request::History { name: name.to_owned(), last_ms };
    client.ask_quickly(&request, |response| -> Result<(), ClientError> {
        match response {
            Response::Sampling { interval_us, missed_total, refused_total } => {
                sampling = json!({
                    "interval_us": interval_us,
                    "missed_total": missed_total,
                    "refused_total": refused_total,
                });
            }
            Response::History(part) => {
                figures.entry(part.figure).or_default().extend(part.samples);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    })?;
    if json {
        output::json(&json!({ "daemon": name, "sampling": sampling, "figures": figures }))?;
    } else {
        output::painted(table(&figures).trim_end())?;
    }
    Ok(ExitCode::Success)
}

fn table(figures: &BTreeMap<String, Vec<HistorySample>>) -> String {
    let mut table = Table::new(&["FIGURE", "SAMPLES", "FIRST", "LEAST", "MOST", "LAST"]);
    for (figure, samples) in figures {
        let values = || samples.iter().map(|sample| sample.value);
        let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        table.row(vec![
            (harmless(figure), None),
            (samples.len().to_string(), None),
            (text(values().next()), None),
            (text(values().reduce(f64::min)), None),
            (text(values().reduce(f64::max)), None),
            (text(values().next_back()), None),
        ]);
    }
    table.render(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_figure() {
        let sample = |value| HistorySample { time_unix_us: 1, value };
        let samples = [3.0, 0.5, 7.0, 4.0].map(sample).to_vec();
        let figures = [("threads".to_owned(), samples), ("x\n".to_owned(), Vec::new())].into();
        let text = table(&figures);
        let cells = |line: usize| {
            text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cells(1), "threads 4 3 0.5 7 4");
        assert_eq!(cells(2), "x\u{fffd} 0 - - - -");
    }
}
