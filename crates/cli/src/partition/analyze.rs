//! `ringmesh partition analyze`: which field of some records would do as a key.

use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::io::{IsTerminal as _, Read, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ringmesh_partition::sample::{Load, Sample, Top};
use serde_json::{Value, json};

use super::records::{self, Counted, Format, Reading};
use crate::progress::{Form, Progress, bar};
use crate::table::{Table, may_colour, print_line};
use crate::{Failure, Outcome};

/// Fields that are looked at in one go at most.
const FIELDS_MAX: usize = 32;
/// Values that are shown of each field, if they weigh so much.
const TOP: usize = 5;
const TOP_SHARE_MIN: f64 = 0.001;
/// With more values than this share of the records nearly every record has its own: what is kept for one is of no use again.
const UNIQUE: f64 = 0.5;
/// A field with more records without a value than this is none to go by.
const EMPTY_MAX: f64 = 0.05;
/// One with fewer values for each host than this is too coarse.
const VALUES_PER_HOST_MIN: f64 = 20.0;

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// CSV with a heading, or JSON objects one a line; - for standard input, with --field.
    file: PathBuf,
    /// A field to look at; may be repeated. Default: all fields of the first record.
    #[arg(long = "field", value_name = "NAME")]
    fields: Vec<String>,
    /// How the file is written; default by its name: .csv, else JSON lines.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Hosts that the keys would be spread over, all alike.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    hosts: u16,
    /// Partitions for each host in the first map.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=60))]
    partitions: u16,
    /// Print JSON: one object a field.
    #[arg(long)]
    json: bool,
}

/// What was found of one field.
struct Field {
    name: String,
    sample: Sample,
    loads: Option<(Load, Load)>,
}

pub(super) fn run(args: &AnalyzeArgs) -> Outcome {
    let is_stdin = args.file == Path::new("-");
    let by_name = if args.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        Format::Csv
    } else {
        Format::Json
    };
    let format = args.format.unwrap_or(by_name);
    let failed = |why: String| Failure::refused(format!("{}: {why}", args.file.display()));
    let open = || File::open(&args.file).map_err(|error| failed(format!("cannot be opened: {error}")));
    let names = match args.fields.as_slice() {
        [] if is_stdin => {
            return Err(Failure::usage("standard input is read once: name the fields with --field"));
        }
        [] => records::names(format, open()?).map_err(&failed)?,
        fields => fields.to_vec(),
    };
    if names.len() > FIELDS_MAX {
        let count = names.len();
        return Err(Failure::usage(format!(
            "{count} fields are too many, {FIELDS_MAX} are possible: choose with --field"
        )));
    }
    let (input, bytes): (Box<dyn Read>, _) = if is_stdin {
        (Box::new(stdin().lock()), None)
    } else {
        let file = open()?;
        let bytes = file.metadata().ok().map(|known| known.len()).filter(|bytes| *bytes > 0);
        (Box::new(file), bytes)
    };
    let (samples, read) = sample(args, format, input, bytes, &names).map_err(&failed)?;
    if samples.iter().all(|sample| sample.records() == 0) {
        let why = read.first_bad.map_or_else(String::new, |why| format!(": {why}"));
        return Err(failed(format!("there is no record in it{why}")));
    }
    let fields: Vec<Field> = names
        .into_iter()
        .zip(samples)
        .map(|(name, sample)| {
            let loads = sample.loads(args.hosts, args.partitions.into());
            Field { name, sample, loads }
        })
        .collect();
    if args.json {
        fields.iter().for_each(|field| print_line(&field.as_json(args, &read).to_string()));
    } else {
        print(args, &fields, &read);
    }
    Ok(())
}

fn sample(
    args: &AnalyzeArgs,
    format: Format,
    input: Box<dyn Read>,
    bytes: Option<u64>,
    names: &[String],
) -> Result<(Vec<Sample>, Reading), String> {
    let mut samples = vec![Sample::default(); names.len()];
    let done = Arc::new(AtomicU64::new(0));
    let drawn = done.clone();
    let progress = Progress::start(Form::of(args.json), move || {
        let done = drawn.load(Ordering::Relaxed);
        let mebibytes = done >> 20;
        Some(match bytes {
            Some(bytes) => format!("{} {mebibytes} of {} MiB", bar(done as f64 / bytes as f64), bytes >> 20),
            None => format!("{mebibytes} MiB"),
        })
    });
    let read = records::read(format, Counted::new(input, done), names, |values| {
        samples.iter_mut().zip(values).for_each(|(sample, value)| sample.add(value));
    })?;
    drop(progress);
    Ok((samples, read))
}

impl Field {
    /// Why it would not do; nothing if it would.
    fn objection(&self, hosts: u16) -> Option<String> {
        let empty = share(self.sample.empty(), self.sample.records());
        if empty > EMPTY_MAX {
            return Some(format!("{:.1} % of the records have none", 100.0 * empty));
        }
        let values = self.sample.distinct();
        if values < VALUES_PER_HOST_MIN * f64::from(hosts) {
            return Some(format!("about {values:.0} values are too few for {hosts} hosts"));
        }
        None
    }

    fn is_nearly_unique(&self) -> bool {
        self.sample.distinct() > UNIQUE * self.sample.keyed() as f64
    }

    fn top(&self) -> Vec<Top> {
        self.sample.top(TOP).into_iter().filter(|top| top.share >= TOP_SHARE_MIN).collect()
    }

    fn as_json(&self, args: &AnalyzeArgs, read: &Reading) -> Value {
        let load = |load: &Load| {
            json!({
                "max_over_mean": load.max_over_mean,
                "partitions": load.partitions,
                "dedicated": load.dedicated,
                "sharers": load.sharers,
                "splits": load.splits,
            })
        };
        let top = self
            .sample
            .top(TOP)
            .into_iter()
            .map(|top| json!({ "value": String::from_utf8_lossy(&top.label), "share": top.share }));
        json!({
            "field": self.name,
            "records": self.sample.records(),
            "unreadable": read.bad,
            "empty": self.sample.empty(),
            "too_long": self.sample.too_long(),
            "values": self.sample.distinct().round(),
            "top": top.collect::<Vec<_>>(),
            "hosts": args.hosts,
            "first_map": self.loads.as_ref().map(|(first, _)| load(first)),
            "planned": self.loads.as_ref().map(|(_, planned)| load(planned)),
            "nearly_unique": self.is_nearly_unique(),
            "objection": self.objection(args.hosts),
        })
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn print(args: &AnalyzeArgs, fields: &[Field], read: &Reading) {
    let records = fields.first().map_or(0, |field| field.sample.records());
    print_line(&format!("{records} records; load of {} hosts, the busiest beside the mean", args.hosts));
    if let Some(why) = &read.first_bad {
        print_line(&format!("{} more could not be read; the first: {why}", read.bad));
    }
    let mut table = Table::new(&[
        "FIELD",
        "VALUES",
        "EMPTY",
        "FIRST MAP",
        "PLANNED",
        "PARTITIONS",
        "OWN KEYS",
        "AS A KEY",
    ]);
    for field in fields {
        let [first, planned, partitions, own] = field.loads.as_ref().map_or_else(
            || ["-"; 4].map(str::to_owned),
            |(first, planned)| {
                let ratio = |load: &Load| format!("{:.2}", load.max_over_mean);
                [ratio(first), ratio(planned), planned.partitions.to_string(), planned.dedicated.to_string()]
            },
        );
        let empty = format!("{:.1} %", 100.0 * share(field.sample.empty(), field.sample.records()));
        let values = format!("~{:.0}", field.sample.distinct());
        let good = || match field.is_nearly_unique() {
            true => "would do, but nearly every record has its own",
            false => "would do",
        };
        let verdict = field.objection(args.hosts).unwrap_or_else(|| good().to_owned());
        table.row(vec![field.name.clone(), values, empty, first, planned, partitions, own, verdict]);
    }
    table.lines(may_colour(stdout().is_terminal())).iter().for_each(|line| print_line(line));
    for field in fields {
        print_line("");
        print_line(&format!("{}, values that weigh most:", field.name));
        let top = field.top();
        if top.is_empty() {
            print_line("  none has a thousandth of all");
        }
        for top in top {
            let label: String = String::from_utf8_lossy(&top.label)
                .chars()
                .filter(|one| !one.is_control())
                .take(32)
                .collect();
            print_line(&format!("  {} {:5.1} %  {label}", bar(top.share), 100.0 * top.share));
        }
    }
    print_line("");
    print_line(&recommendation(args, fields));
}

/// The field whose load is evenest once planned, of those that would do, and rather one whose values come again.
fn recommendation(args: &AnalyzeArgs, fields: &[Field]) -> String {
    let good = fields.iter().filter(|field| field.objection(args.hosts).is_none());
    let good = good.filter_map(|field| Some((field, field.loads?)));
    let best = good.min_by(|(one, (_, load)), (other, (_, other_load))| {
        let is_unique = one.is_nearly_unique().cmp(&other.is_nearly_unique());
        is_unique.then(load.max_over_mean.total_cmp(&other_load.max_over_mean))
    });
    let Some((best, (first, planned))) = best else {
        return "None of these fields would do as a key.".to_owned();
    };
    let shared = match planned.sharers {
        0 | 1 => String::new(),
        hosts => format!(", shared by up to {hosts} hosts"),
    };
    let own = match planned.dedicated {
        0 => "no key needs a partition of its own".to_owned(),
        1 => format!("one key gets a partition of its own{shared}"),
        count => format!("{count} keys get partitions of their own{shared}"),
    };
    format!(
        "Take {}: the busiest host has {:.2} times the mean by the first map, {:.2} once planned; {own}.",
        best.name, first.max_over_mean, planned.max_over_mean
    )
}
