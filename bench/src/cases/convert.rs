//! Conversion between protobuf and JSON in this process: pods of 2 KB, one after the other, both ways.
//!
//! Told as milliseconds for 10^6 bytes of the JSON side, so that less is better as in every row: 10 ms are 100 MB/s.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use yurt_api::proto;
use yurt_api::resource::TypeMeta;

use super::{Plan, pod};
use crate::report::Row;
use crate::rounds::{median, ms};

const PODS: usize = 500;
const MILLISECONDS_A_MEGABYTE: f64 = 10.0;

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let kind = TypeMeta::new("v1", "Pod");
    let messages: Vec<Vec<u8>> = (0..PODS)
        .map(|n| proto::from_json(&kind, pod(&format!("web-{n}"), n).to_string().as_bytes()))
        .collect::<Result<_, _>>()
        .context("pods as protobuf")?;
    let objects: Vec<Vec<u8>> = messages
        .iter()
        .map(|m| proto::to_json(&kind, m))
        .collect::<Result<_, _>>()
        .context("pods as JSON")?;
    let bytes = objects.iter().map(Vec::len).sum::<usize>() as f64;
    let (mut to_json, mut from_json) = (Vec::new(), Vec::new());
    for _ in 0..plan.times(50) {
        to_json.push(a_megabyte(bytes, || {
            messages.iter().try_for_each(|m| proto::to_json(&kind, m).map(seen))
        })?);
        from_json.push(a_megabyte(bytes, || {
            objects.iter().try_for_each(|o| proto::from_json(&kind, o).map(seen))
        })?);
    }
    Ok(vec![row("protobuf to JSON", to_json), row("JSON to protobuf", from_json)])
}

fn seen(converted: Vec<u8>) {
    black_box(converted);
}

fn a_megabyte(bytes: f64, work: impl FnOnce() -> Result<(), proto::ConvertError>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    let took: Duration = begun.elapsed();
    Ok(ms(took) / (bytes / 1e6))
}

fn row(way: &str, rounds: Vec<f64>) -> Row {
    let value = median(rounds);
    Row::limited(format!("convert {way}"), value, "ms/MB", MILLISECONDS_A_MEGABYTE)
        .beside(format!("{:.0} MB/s of JSON", 1e3 / value))
}
