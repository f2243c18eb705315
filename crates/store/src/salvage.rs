//! What cannot be fetched again is taken over from a file that was set aside: the journal, its conflicts, and what
//! was remembered (tokens, principals, grants, reviews). Every such record is sealed in its place, so that one that
//! opens is as it was written, wherever in the file the damage is.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use crate::error::{Result, StoreError};
use crate::journal::{COLUMNS, cloud_place, open_entry};
use crate::remembered::{Key, What};
use crate::seal::Sealer;

/// A table of which records are taken over.
struct Table {
    name: &'static str,
    /// What orders it, and names a record.
    id: &'static str,
    columns: String,
    opens: fn(&Row<'_>, &Sealer) -> Result<()>,
}

/// Whole records by table and number.
pub(crate) struct Salvaged(Vec<(Table, BTreeMap<i64, Vec<Value>>)>);

/// Reads what can be read. A file of which nothing can be read gives nothing.
pub(crate) fn read(aside: &Path, sealer: &Sealer) -> Salvaged {
    let Ok(conn) = open(aside) else { return Salvaged(Vec::new()) };
    let found = tables().into_iter().map(|table| {
        let mut records = BTreeMap::new();
        // From both ends: what stands behind a damaged page is found from the other side.
        for order in ["ASC", "DESC"] {
            let _damage = collect(&conn, &table, order, sealer, &mut records);
        }
        (table, records)
    });
    Salvaged(found.collect())
}

impl Salvaged {
    /// Writes the records into a store that was just begun, durable on return; says how many they are.
    pub fn keep(self, conn: &mut Connection) -> Result<u64> {
        conn.pragma_update(None, "synchronous", "FULL")?;
        let tx = conn.transaction()?;
        let mut kept = 0;
        for (table, records) in self.0 {
            let places = vec!["?"; table.columns.split(',').count()].join(", ");
            let sql = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({places})", table.name, table.columns);
            let mut insert = tx.prepare(&sql)?;
            for record in records.into_values() {
                kept += insert.execute(params_from_iter(record))? as u64;
            }
        }
        tx.commit()?;
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(kept)
    }
}

fn tables() -> [Table; 3] {
    let conflicts = format!("{COLUMNS}, reason, cloud, parked_at");
    [
        Table {
            name: "journal",
            id: "seq",
            columns: COLUMNS.into(),
            opens: |r, s| open_entry("journal", r, s).map(drop),
        },
        Table { name: "conflicts", id: "seq", columns: conflicts, opens: conflict_opens },
        Table {
            name: "remembered",
            id: "id",
            columns: "id, what, owner, key, observed_at, body".into(),
            opens: remembered_opens,
        },
    ]
}

fn open(aside: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(aside, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

fn collect(
    conn: &Connection,
    table: &Table,
    order: &str,
    sealer: &Sealer,
    records: &mut BTreeMap<i64, Vec<Value>>,
) -> Result<()> {
    let sql = format!("SELECT {} FROM {} ORDER BY {} {order}", table.columns, table.name, table.id);
    let mut all = conn.prepare(&sql)?;
    let columns = all.column_count();
    let mut found = all.query([])?;
    while let Some(row) = found.next()? {
        if (table.opens)(row, sealer).is_err() {
            continue;
        }
        let record = (0..columns).map(|n| row.get(n)).collect::<rusqlite::Result<Vec<Value>>>()?;
        records.insert(row.get(0)?, record);
    }
    Ok(())
}

fn conflict_opens(row: &Row<'_>, sealer: &Sealer) -> Result<()> {
    let entry = open_entry("conflicts", row, sealer)?;
    let cloud: Option<Vec<u8>> = row.get("cloud")?;
    cloud.map_or(Ok(()), |c| sealer.open(&cloud_place(entry.seq.cast_signed()), &c).map(drop))
}

fn remembered_opens(row: &Row<'_>, sealer: &Sealer) -> Result<()> {
    let what: String = row.get(1)?;
    let what = What::parse(&what).ok_or_else(|| StoreError::Damaged(format!("nothing is named {what:?}")))?;
    let (owner, key, at, body): (String, Vec<u8>, i64, Vec<u8>) =
        (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
    sealer.open(&Key::new(what, &owner, key).place(at), &body).map(drop)
}
