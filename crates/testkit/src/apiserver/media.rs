//! What the client takes and what it sends: `Accept` and `Content-Type`.
//! Source: k8s.io/apiserver/pkg/endpoints/handlers/negotiation.

use super::error::Refusal;

/// JSON's media type.
pub const JSON: &str = "application/json";
/// Protobuf's media type.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// Enveloped protobuf.
    Protobuf,
}

/// What of the objects is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All.
    Whole,
    /// Only the metadata: `PartialObjectMetadata`.
    Metadata,
    /// The columns that people like to see: `Table`.
    Table,
}

/// A negotiated form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// How it is written.
    pub encoding: Encoding,
    /// What is in it.
    pub shape: Shape,
}

/// Plain protobuf.
pub const PLAIN_PROTOBUF: Media = Media { encoding: Encoding::Protobuf, shape: Shape::Whole };
/// Plain JSON.
pub const PLAIN_JSON: Media = Media { encoding: Encoding::Json, shape: Shape::Whole };

impl Media {
    /// The forms that the client takes, best first. Nothing to choose from is 406.
    pub fn negotiate(accept: Option<&str>) -> Result<Vec<Self>, Refusal> {
        let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Ok(vec![PLAIN_JSON]) };
        let mut clauses: Vec<_> = accept.split(',').map(Clause::parse).collect();
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let media: Vec<_> = clauses.iter().filter_map(Clause::media).collect();
        if media.is_empty() {
            Err(Refusal::not_acceptable(&[JSON, "application/yaml", PROTOBUF]))
        } else {
            Ok(media)
        }
    }

    /// `Content-Type` of the answer.
    pub fn content_type(self, watch: bool) -> &'static str {
        match (self.encoding, watch) {
            (Encoding::Json, _) => JSON,
            (Encoding::Protobuf, false) => PROTOBUF,
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

struct Clause<'a> {
    media_type: &'a str,
    shape: Option<&'a str>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Self { media_type: parts.next().unwrap_or_default(), shape: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            match name {
                "as" => clause.shape = Some(value),
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                _ => {}
            }
        }
        clause
    }

    fn media(&self) -> Option<Media> {
        let encoding = match self.media_type {
            JSON | "*/*" | "application/*" => Encoding::Json,
            PROTOBUF => Encoding::Protobuf,
            _ => return None,
        };
        let shape = match self.shape {
            None => Shape::Whole,
            // Only discovery has them, and looks for them itself.
            Some("APIGroupDiscoveryList") if encoding == Encoding::Json => Shape::Whole,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata,
            Some("Table") if encoding == Encoding::Json => Shape::Table,
            Some(_) => return None,
        };
        Some(Media { encoding, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_clause_that_is_served_wins() {
        let first = |accept: &str| Media::negotiate(Some(accept)).map(|m| m[0]);
        assert_eq!(
            first("application/vnd.kubernetes.protobuf,application/json").unwrap().encoding,
            Encoding::Protobuf
        );
        assert_eq!(first("*/*").unwrap(), PLAIN_JSON);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(first(table).unwrap().shape, Shape::Table);
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(first(metadata).unwrap().shape, Shape::Metadata);
        assert_eq!(
            first("application/json;q=0.1,application/vnd.kubernetes.protobuf").unwrap().encoding,
            Encoding::Protobuf
        );
        assert_eq!(first("text/html").unwrap_err().code, 406);
    }
}
