//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::family::{Distribution, Family, Kind, Value};

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as a scrape wants them.
pub fn text(families: &[Family]) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        let about = family.about;
        let kind = match about.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {kind}", about.prometheus, about.help);
        for point in &family.points {
            let labels = Labels(&point.labels);
            match &point.value {
                Value::Number(number) => {
                    let _ = writeln!(text, "{}{} {number}", about.prometheus, labels.with(None));
                }
                Value::Distribution(distribution) => histogram(&mut text, about.prometheus, &labels, distribution),
            }
        }
    }
    text
}

fn histogram(text: &mut String, name: &str, labels: &Labels<'_>, distribution: &Distribution) {
    let mut below = 0;
    let bounds = distribution.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&distribution.counts) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{} {below}", labels.with(Some(&bound)));
    }
    let plain = labels.with(None);
    let _ = writeln!(text, "{name}_sum{plain} {}\n{name}_count{plain} {below}", distribution.sum);
}

struct Labels<'a>(&'a [(&'static str, &'static str)]);

impl Labels<'_> {
    /// In braces, with the bound of a bucket behind them. Their values need no escapes: see the test.
    fn with(&self, bound: Option<&str>) -> String {
        let own = self.0.iter().map(|(key, value)| format!("{}=\"{value}\"", key.replace('.', "_")));
        let all: Vec<_> = own.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
        if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{catalog, family::Point};

    #[test]
    fn a_scrape_reads_as_the_format_says() {
        let point = |labels: &[(&'static str, &'static str)], value| Point { labels: labels.to_vec(), value };
        let distribution = Distribution { bounds: &[0.5, 1.0], counts: vec![1, 2, 3], sum: 4.25 };
        let families = [
            Family { about: catalog::LOGINS, points: vec![point(&[("outcome", "ok")], Value::Number(3.0))] },
            Family { about: catalog::KEY_AGE, points: Vec::new() },
            Family {
                about: catalog::RPC_DURATION,
                points: vec![point(&[("rpc.method", "a/B")], Value::Distribution(distribution))],
            },
        ];
        let text = text(&families);
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            values,
            [
                "# TYPE vouchsafe_logins_total counter",
                "vouchsafe_logins_total{outcome=\"ok\"} 3",
                "# TYPE rpc_server_call_duration_seconds histogram",
                "rpc_server_call_duration_seconds_bucket{rpc_method=\"a/B\",le=\"0.5\"} 1",
                "rpc_server_call_duration_seconds_bucket{rpc_method=\"a/B\",le=\"1\"} 3",
                "rpc_server_call_duration_seconds_bucket{rpc_method=\"a/B\",le=\"+Inf\"} 6",
                "rpc_server_call_duration_seconds_sum{rpc_method=\"a/B\"} 4.25",
                "rpc_server_call_duration_seconds_count{rpc_method=\"a/B\"} 6",
            ]
        );
    }

    #[test]
    fn every_name_follows_from_the_name_in_otlp() {
        for about in catalog::CATALOG {
            assert!(!about.help.contains(['\n', '\\']) && about.help.ends_with('.'), "{}", about.help);
            // Those of a process have names that everybody's dashboards know.
            if about.name.starts_with("process.") {
                continue;
            }
            let name = about.name.replace('.', "_");
            let rest = about.prometheus.strip_prefix(&name).unwrap_or_else(|| panic!("{}", about.prometheus));
            let wanted = match (about.kind, about.unit) {
                (Kind::Counter, _) => "_total",
                (_, "s") if name.ends_with("next_activation") => "_timestamp_seconds",
                (_, "s") => "_seconds",
                _ => "",
            };
            assert_eq!(rest, wanted, "{}", about.prometheus);
        }
    }
}
