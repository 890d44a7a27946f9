//! Owners come and go: each has an epoch, and the next one makes up for claims that died with the one before.

use crate::store::claims;
use crate::store::write::Transaction;
use crate::{Error, FaultPlan};
use errand_core::{Due, Item, ItemBody, ItemKey, Record, RunId, Timestamp};
use errand_engine::ports::World;

/// Begins the epoch of a new owner. If the one before did not close, every run whose model call became due under it gets
/// a claim for that call, already expired: it may have been made, and nobody knows what came of it.
pub(crate) fn begin(transaction: &mut Transaction<'_>, world: &dyn World, faults: &FaultPlan) -> Result<i64, Error> {
    transaction.begin()?;
    let (last, clean) = epoch(transaction)?;
    if !clean {
        // Written in the name of the owner that died, so that they read as over whatever the clock says.
        transaction.epoch = last;
        for run in transaction.reader().unfinished()? {
            make_up(transaction, run, last, world)?;
        }
    }
    transaction.epoch = last + 1;
    transaction.execute("UPDATE meta SET epoch = ?1, clean = 0", [last + 1])?;
    let write = faults.before();
    transaction.commit()?;
    faults.after(write);
    Ok(last + 1)
}

/// Ends the epoch: stores the claims that were only in memory and notes that nothing has to be made up.
pub(crate) fn close(
    transaction: &mut Transaction<'_>,
    open: Vec<(RunId, Vec<Item>)>,
    faults: &FaultPlan,
) -> Result<(), Error> {
    transaction.begin()?;
    for (run, items) in open {
        let Some(brief) = transaction.reader().brief(run)? else { continue };
        for item in items {
            transaction.insert_item(brief.row, &item)?;
        }
    }
    transaction.execute("UPDATE meta SET clean = 1", [])?;
    let write = faults.before();
    transaction.commit()?;
    faults.after(write);
    Ok(())
}

fn epoch(transaction: &Transaction<'_>) -> Result<(i64, bool), Error> {
    let found = transaction
        .connection
        .query_row("SELECT epoch, clean FROM meta", [], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? != 0)));
    found.map_err(|error| Error::sqlite(transaction.file, error))
}

fn make_up(transaction: &mut Transaction<'_>, run: RunId, last: i64, world: &dyn World) -> Result<(), Error> {
    let name = run.to_string();
    let reader = transaction.reader();
    let Some(brief) = reader.brief(run)? else { return Ok(()) };
    // A head that an earlier owner committed: any claim for what follows it was stored.
    if brief.head_epoch != last {
        return Ok(());
    }
    let Some((number, _, bytes)) = reader.last_bytes(brief.row)? else { return Ok(()) };
    // A run that is damaged, or that a newer version wrote, says so when it is loaded; the others go on.
    let Ok(record) = reader.parse::<Record>(&name, "last record", &bytes) else { return Ok(()) };
    let Due::Model { reserve, .. } = record.head.due else { return Ok(()) };
    let due = number + 1;
    let stored = reader.claims(&name, brief.row, due)?;
    if claims::has_open(&stored, due) {
        return Ok(());
    }
    let attempts = stored.keys().map(|key| match key {
        ItemKey::Claim { attempt, .. } => *attempt,
        _ => 0,
    });
    let attempt = attempts.max().unwrap_or(0) + 1;
    let now: Timestamp = world.now();
    let claim = Item {
        key: ItemKey::Claim { record: due, attempt },
        at: now,
        body: ItemBody::Claim { by: world.nonce(), bound: reserve, expires: now },
    };
    transaction.insert_item(brief.row, &claim)
}
