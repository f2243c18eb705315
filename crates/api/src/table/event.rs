//! The row of an event.

use serde::Deserialize;
use serde_json::Value;

use super::age::age;
use super::{Made, Metadata};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event {
    metadata: Metadata,
    r#type: String,
    reason: String,
    message: String,
    involved_object: Involved,
    source: Source,
    reporting_component: String,
    reporting_instance: String,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    count: i64,
    series: Option<Series>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Involved {
    kind: String,
    name: String,
    field_path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    component: String,
    host: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    count: i64,
    last_observed_time: Option<String>,
}

/// The cells of an event at `now`.
pub(super) fn made(event: &Event, now: i64) -> Made {
    let first = event.first_timestamp.as_deref().or(event.event_time.as_deref());
    let last = match &event.series {
        Some(series) => series.last_observed_time.as_deref(),
        None => event.last_timestamp.as_deref().or(first),
    };
    Made::of(vec![
        age(last, now).into(),
        event.r#type.as_str().into(),
        event.reason.as_str().into(),
        event.target().into(),
        event.involved_object.field_path.as_str().into(),
        event.reporter().into(),
        event.message.trim().into(),
        age(first, now).into(),
        Value::from(event.times()),
        event.metadata.name.as_str().into(),
    ])
}

impl Event {
    /// An event of the newer API that happened once has no count.
    fn times(&self) -> i64 {
        match &self.series {
            Some(series) => series.count,
            None if self.count == 0 => 1,
            None => self.count,
        }
    }

    fn target(&self) -> String {
        let kind = self.involved_object.kind.to_lowercase();
        let name = &self.involved_object.name;
        if name.is_empty() { kind } else { format!("{kind}/{name}") }
    }

    fn reporter(&self) -> String {
        let first = |old: &str, new: &str| if old.is_empty() { new.to_owned() } else { old.to_owned() };
        let component = first(&self.source.component, &self.reporting_component);
        let instance = first(&self.source.host, &self.reporting_instance);
        if instance.is_empty() { component } else { format!("{component}, {instance}") }
    }
}
