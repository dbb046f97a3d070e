//! `ringmesh map list`.

use crate::api::{ask, items, moment, text};
use crate::table::{Table, print_line};
use crate::{Ask, Outcome};

pub(super) async fn run(args: &Ask) -> Outcome {
    let answer = ask(args, "GET", "/api/v1/maps", None).await?;
    if args.json {
        print_line(&answer.to_string());
        return Ok(());
    }
    if items(&answer).is_empty() {
        print_line("no map is declared: ringmesh map declare MAP declares one");
        return Ok(());
    }
    let mut table = Table::new(&[
        "MAP",
        "STRATEGY",
        "MODE",
        "GENERATION",
        "AUTHOR",
        "HOSTS",
        "PARTITIONS",
        "DEDICATED",
        "SINCE",
    ]);
    for map in items(&answer) {
        let or_none = |field: &str| if map[field].is_null() { "-".to_owned() } else { text(map, field) };
        table.row(vec![
            text(map, "map"),
            text(map, "strategy"),
            text(map, "mode"),
            or_none("generation"),
            or_none("author"),
            text(map, "hosts"),
            text(map, "partitions"),
            text(map, "dedicated"),
            moment(map, "taken"),
        ]);
    }
    table.print();
    Ok(())
}
