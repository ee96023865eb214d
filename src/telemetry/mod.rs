//! What an operator sees of a node: the log on standard error, for people or for machines; metrics, for a scrape or by OTLP;
//! and traces, by OTLP.
//!
//! Nothing here says who somebody is: metrics have only labels whose values are fixed in the program, and spans leave with
//! the attributes of a list.

use std::io::{self, IsTerminal as _};

use opentelemetry::trace::TracerProvider as _;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::FilterFn,
    fmt::{self, MakeWriter, SubscriberBuilder, time::SystemTime},
    layer::SubscriberExt as _,
};

mod catalog;
mod family;
mod instrument;
mod label;
mod metrics;
mod otlp;
mod process;
mod prometheus;
mod spans;

pub use catalog::CATALOG;
pub use family::{Description, Distribution, Family, Kind, Point, Value};
pub use label::{
    Label, LoginOutcome, MessageChannel, MessageOutcome, RefreshPath, RefreshRow, RegistrationOutcome,
    ServiceTokenOutcome, Throttled, VerificationResult, WatchEnd,
};
pub use metrics::{Metrics, OpenAuditWatch, OpenConnection, OpenWatch, Readings, RpcMethod};
pub use otlp::{Otlp, OtlpError};
pub use prometheus::{CONTENT_TYPE, text};
pub use spans::{begin_rpc_span, end_rpc_span};

use crate::{config, domain::secret::Entropy};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is no filter.
    #[error(
        "{0:?} is not a log filter: write a level (error, warn, info, debug, trace), or levels by module such as info,vouchsafe=debug"
    )]
    Filter(String),
    /// The collector's endpoint is no URL that one could connect to.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

/// Starts logging, and if there is an endpoint the way of traces and metrics to it. Must be called within the runtime.
///
/// # Errors
/// If a setting cannot be used.
pub fn start(
    log: &config::Log,
    telemetry: &config::Telemetry,
    entropy: &dyn Entropy,
) -> Result<Option<Otlp>, TelemetryError> {
    let Some(endpoint) = &telemetry.otlp_endpoint else {
        init(log.format, &log.filter)?;
        return Ok(None);
    };
    let otlp = Otlp::new(endpoint, f64::from(telemetry.trace_percent) / 100.0, entropy)?;
    let lines = fmt::layer().with_writer(io::stderr).with_timer(SystemTime);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Pretty => Box::new(lines.with_ansi(io::stderr().is_terminal())),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_span_list(false)),
    };
    let tracer = otlp.provider().tracer(env!("CARGO_PKG_NAME"));
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false);
    // Our spans, and no events: what is logged is for the log.
    let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target().starts_with(env!("CARGO_PKG_NAME")))
        .with_max_level_hint(LevelFilter::DEBUG);
    let subscriber =
        Registry::default().with(lines.with_filter(parse_filter(&log.filter)?)).with(spans.with_filter(ours));
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        spans::set_exported();
    }
    Ok(Some(otlp))
}

/// Sends what passes `filter` to standard error for the rest of the process. A second call changes nothing, so that a
/// test may begin with it.
///
/// `json` writes one object a line with the event's fields at the top and RFC 3339 times in UTC; `pretty` has colours only
/// if standard error is a terminal.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, parse_filter(filter)?, io::stderr, io::stderr().is_terminal());
    // The only way to fail is that there is one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Reads a filter directive of `EnvFilter`. An empty one is refused: it would hide everything but errors.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = || TelemetryError::Filter(filter.to_owned());
    if filter.trim().is_empty() {
        return Err(refused());
    }
    EnvFilter::builder().parse(filter).map_err(|_| refused())
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W, ansi: bool) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = SubscriberBuilder::default().with_env_filter(filter).with_writer(writer).with_timer(SystemTime);
    match format {
        LogFormat::Pretty => Box::new(builder.with_ansi(ansi).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place to write that can be read afterwards.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, ansi: bool) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = subscriber(format, parse_filter(filter).unwrap(), move || writer.clone(), ansi);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(answer = 42, "hello");
            tracing::debug!("hidden");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_flat_and_its_times_are_rfc_3339_in_utc() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", true)).unwrap();
        assert_eq!((&line["message"], &line["answer"], &line["level"]), (&"hello".into(), &42.into(), &"INFO".into()));
        let stamp = line["timestamp"].as_str().unwrap();
        assert!(stamp.ends_with('Z'), "{stamp}");
        time::OffsetDateTime::parse(stamp, &time::format_description::well_known::Rfc3339).unwrap();
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(logged(LogFormat::Pretty, "info", true).contains('\u{1b}'));
        let plain = logged(LogFormat::Pretty, "info", false);
        assert!(plain.contains("hello answer=42") && !plain.contains('\u{1b}'), "{plain}");
        assert!(!plain.contains("hidden"));
        assert!(logged(LogFormat::Pretty, "debug", false).contains("hidden"));
    }

    #[test]
    fn a_bad_filter_is_an_error_and_a_second_start_is_none() {
        for bad in ["", " ", "vouchsafe=loud", "info,[", "a=b=c"] {
            assert!(parse_filter(bad).is_err(), "{bad:?}");
            assert!(init(LogFormat::Json, bad).is_err(), "{bad:?}");
        }
        init(LogFormat::Pretty, "off").unwrap();
        init(LogFormat::Json, "info,vouchsafe=debug").unwrap();
    }
}
