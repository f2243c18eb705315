//! Columns of custom resources: cells as the apiserver makes them.
//!
//! `columns.json` holds an object and, for paths and types of columns, the cells that
//! `k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor` 0.34.4 makes of it; `"@-90000"` is the
//! time 90,000 s ago.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use yurt_api::representation::TableVersion;
use yurt_api::resource::TypeMeta;
use yurt_api::table::{self, Columns, Form, Include};

const NOW: i64 = 1_790_000_000;
const THEN: &str = "2026-09-20T13:13:20Z";

fn data() -> Value {
    serde_json::from_str(&include_str!("columns.json").replace("@-90000", THEN)).unwrap()
}

fn shown(columns: Columns, object: &Value) -> Value {
    let form = Form { version: TableVersion::V1, include: Include::None, columns: Some(columns) };
    let kind = TypeMeta::new("example.org/v1", "Widget");
    let item = object.to_string();
    serde_json::from_slice(&table::single(&form, &kind, item.as_bytes(), NOW, true).unwrap()).unwrap()
}

fn definition(columns: Value) -> Value {
    json!({"spec": {"versions": [{"name": "v0"}, {"name": "v1", "additionalPrinterColumns": columns}]}})
}

#[test]
fn every_cell_is_the_apiservers() {
    let data = data();
    for case in data["cells"].as_array().unwrap() {
        let column = json!({"name": "C", "type": case[1], "jsonPath": case[0], "priority": 1});
        let columns = Columns::of_definition(&definition(json!([column])), "v1").unwrap();
        let table = shown(columns, &data["object"]);
        assert_eq!(table["rows"][0]["cells"], json!(["w", case[2]]), "{case}");
        let header = &table["columnDefinitions"][1];
        assert_eq!(
            (&header["name"], &header["type"], &header["priority"]),
            (&json!("C"), &case[1], &json!(1))
        );
    }
}

/// What the apiserver sends of the columns is enough where it had to describe them itself.
#[test]
fn columns_are_learnt_from_a_table() {
    let described = "Custom resource definition column (in JSONPath format): ";
    let definitions = json!([
        {"name": "Name", "type": "string", "format": "name", "description": "x", "priority": 0},
        {"name": "Size", "type": "integer", "format": "int32", "description": format!("{described}.spec.size"), "priority": 0},
        {"name": "Hidden", "type": "string", "format": "", "description": "Whatever.", "priority": 0},
        {"name": "Odd", "type": "string", "format": "", "description": format!("{described}.spec.list[0:1]"), "priority": 0},
        {"name": "Age", "type": "date", "format": "", "description": "CreationTimestamp is ...", "priority": 0}
    ]);
    let body = json!({"kind": "Table", "columnDefinitions": definitions, "rows": []}).to_string();
    let found = table::definitions(body.as_bytes()).unwrap().unwrap();
    let table = shown(Columns::of_definitions(found.as_bytes()).unwrap(), &data()["object"]);
    assert_eq!(table["rows"][0]["cells"], json!(["w", 3, "25h"]));
    let names: Vec<&Value> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Size", "Age"], "nothing is shown that cannot be filled");
    assert_eq!(table["columnDefinitions"][1], definitions[1]);
}

#[test]
fn without_columns_there_is_an_age() {
    let table = shown(Columns::of_definition(&definition(json!([])), "v1").unwrap(), &data()["object"]);
    assert_eq!(table["rows"][0]["cells"], json!(["w", "25h"]));
    assert!(Columns::of_definition(&definition(json!([])), "v2").is_none(), "not of that version");
}

#[test]
fn what_is_no_table_has_no_definitions() {
    for body in
        [r#"{"kind":"WidgetList","columnDefinitions":[]}"#, r#"{"kind":"Table","columnDefinitions":null}"#]
    {
        assert_eq!(table::definitions(body.as_bytes()).unwrap(), None, "{body}");
    }
    assert!(table::definitions(b"<html>").is_err());
    for definitions in ["{}", "[1]", "[{\"name\":1}]", ""] {
        assert!(Columns::of_definitions(definitions.as_bytes()).is_err(), "{definitions}");
    }
}
