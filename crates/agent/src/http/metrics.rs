//! Prometheus text: plain counters of every part, rendered when asked for.

use core::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Api;
use super::read::agreed_ms;
use crate::clock::wall_now;
use crate::dns_server::DnsStats;

struct Page(String);

impl Page {
    fn add(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        let _ = writeln!(
            self.0,
            "# HELP ringmesh_{name} {help}\n# TYPE ringmesh_{name} {kind}\nringmesh_{name} {value}"
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: &AtomicU64) {
        self.add(name, "counter", help, value.load(Ordering::Relaxed));
    }
}

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let mut page = Page(String::with_capacity(8_192));
    members(&mut page, &api);
    node(&mut page, &api);
    mesh(&mut page, &api);
    dns(&mut page, &api);
    page.counter("http_requests_total", "HTTP requests.", &api.requests);
    let help = "Lines of the log that were lost because too many waited to be written.";
    page.add("log_lines_lost_total", "counter", help, (api.lines_lost)());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0)
}

fn members(page: &mut Page, api: &Api) {
    let snapshot = api.published.snapshot.load();
    page.0.push_str("# HELP ringmesh_members Members by state.\n# TYPE ringmesh_members gauge\n");
    for state in ["Alive", "Suspect", "Holding", "Down", "Left"] {
        let count = snapshot.members.values().filter(|member| member.state.as_str() == state).count();
        let _ = writeln!(page.0, "ringmesh_members{{state=\"{}\"}} {count}", state.to_ascii_lowercase());
    }
    let clashes = snapshot.members.values().filter(|member| member.clash.is_some()).count();
    page.add("member_clashes", "gauge", "Members whose name is used twice.", clashes as u64);
    page.add("services", "gauge", "Services that are known.", snapshot.services.len() as u64);
    let instances: usize = snapshot.services.values().map(|service| service.instances.len()).sum();
    page.add("instances", "gauge", "Instances that are known.", instances as u64);
    let now = wall_now().as_unix_millis();
    let serving = snapshot.members.values().filter(|member| member.state.is_serving());
    let oldest = serving.map(|member| now.saturating_sub(agreed_ms(api, member))).max().unwrap_or_default();
    let help = "Seconds since another member last agreed with what is known of a serving member, the oldest.";
    page.add("staleness_seconds_max", "gauge", help, oldest / 1_000);
    let demoted = snapshot.members.values().filter(|member| member.demoted.is_some()).count();
    page.add("members_demoted", "gauge", "Members whose instances come last in answers.", demoted as u64);
    let is_isolated = snapshot.isolated_since.is_some();
    page.add(
        "agent_isolated",
        "gauge",
        "1 while none of the known members is heard.",
        u64::from(is_isolated),
    );
}

fn node(page: &mut Page, api: &Api) {
    let stats = api.published.stats.load();
    let (node, membership, spread) = (&stats.0, &stats.1, &stats.2);
    for (name, help, value) in [
        ("node_impostors_total", "Packets whose sender is not who its certificate says.", node.impostors),
        ("node_undecodable_total", "Packets that did not decode.", node.undecodable),
        ("node_stale_packets_total", "Packets of an earlier life of their sender.", node.stale_packets),
        ("node_strangers_total", "Packets of senders whose node document had not come yet.", node.strangers),
        ("documents_refused_total", "Documents that were refused.", node.documents_refused),
        ("documents_forgotten_total", "Documents of forgotten members.", node.documents_forgotten),
        ("documents_merged_total", "Documents that were news.", node.documents_merged),
        ("documents_repeated_total", "Documents that were known already.", node.documents_repeated),
        ("documents_echoed_total", "Peers that were told something newer.", node.echoes),
        ("accusations_counted_total", "Accusations that counted.", node.accusations_counted),
        ("accusations_void_total", "Accusations that did not.", node.accusations_void),
        ("members_declared_down_total", "Members that were declared Down here.", node.downs),
        ("node_refutations_total", "Accusations that this node refuted.", node.refutations),
        ("node_renewals_total", "Times this node renewed because it was held Down.", node.renewals),
        (
            "questions_dropped_total",
            "Questions not asked because too many were under way.",
            node.questions_dropped,
        ),
        ("spread_fresh_total", "Statements that came along the tree and were news.", spread.fresh),
        ("spread_repeated_total", "Statements that came along the tree and were known.", spread.repeated),
        ("spread_prunes_total", "Links that were made lazy.", spread.prunes),
        ("spread_grafts_total", "Statements that had to be asked for.", spread.grafts),
        ("probes_failed_total", "Probes of members that were not answered.", membership.probes_failed),
        (
            "claims_removed_total",
            "Claims about third parties taken out of packets.",
            membership.claims_removed,
        ),
    ] {
        page.add(name, "counter", help, value);
    }
    page.counter("seals_admitted_total", "Statements whose seal was right.", &api.gate.admitted);
    page.counter(
        "seals_rejected_total",
        "Statements whose seal, size or trust was wrong.",
        &api.gate.rejected,
    );
    let hops = u64::from(spread.hops_max);
    page.add("spread_hops_max", "gauge", "Links that news passed at most to come here.", hops);
    let health = u64::from(membership.local_health);
    page.add(
        "node_local_health",
        "gauge",
        "Signs that this node does not keep up, 0 to 7; from 4 on it doubts itself.",
        health,
    );
    let documents = api.published.documents.load(Ordering::Relaxed);
    page.add("documents", "gauge", "Documents that are kept.", documents);
    page.counter("node_turns_total", "Turns of the node's loop.", &api.published.turns);
    let longest = api.published.turn_us_max.load(Ordering::Relaxed);
    page.add("node_turn_microseconds_max", "gauge", "The longest turn of the node's loop.", longest);
}

fn mesh(page: &mut Page, api: &Api) {
    let stats = &api.mesh.stats;
    page.add("mesh_links", "gauge", "Open links.", api.mesh.open_links() as u64);
    page.counter("mesh_dials_total", "Dials that succeeded.", &stats.dials);
    page.counter("mesh_dials_failed_total", "Dials that failed.", &stats.dials_failed);
    page.counter("mesh_accepted_total", "Links that others opened.", &stats.accepted);
    page.counter("mesh_refused_total", "Handshakes of peers that came to nothing.", &stats.refused);
    let help =
        "Bytes of messages sent to peers, before QUIC adds its headers, acknowledgements and encryption.";
    page.counter("mesh_payload_bytes_total", help, &stats.payload_bytes);
    page.counter(
        "mesh_dropped_total",
        "Datagrams and pushes dropped because a queue was full.",
        &stats.dropped,
    );
    page.counter("mesh_undecodable_total", "Streams that did not decode.", &stats.undecodable);
    page.counter("mesh_examined_total", "Examinations by peers.", &stats.examined);
    page.counter(
        "mesh_examinations_refused_total",
        "Examinations by peers that were turned away because too many were under way.",
        &stats.examinations_refused,
    );
}

fn dns(page: &mut Page, api: &Api) {
    let stats = api.dns.stats();
    page.counter("dns_queries_total", "DNS requests.", &stats.queries);
    page.counter("dns_hot_queries_total", "DNS requests answered from encoded records.", &stats.hot);
    page.counter(
        "dns_dropped_total",
        "Unusual DNS requests dropped because too many waited.",
        &stats.dropped,
    );
    let bytes = api.published.zone.load().heap_bytes() as u64;
    page.add("dns_zone_bytes", "gauge", "Bytes of encoded records.", bytes);
    page.counter("dns_tcp_queries_total", "DNS requests over TCP.", &stats.over_tcp);
    page.counter("dns_nxdomain_total", "Responses that a name does not exist.", &stats.nxdomain);
    page.counter("dns_refused_total", "Responses that refuse.", &stats.refused);
    page.counter("dns_formerr_total", "Responses that a request cannot be read.", &stats.formerr);
    page.counter("dns_truncated_total", "Responses that send the asker to TCP.", &stats.truncated);
    page.counter(
        "dns_rate_limited_total",
        "DNS requests over UDP dropped because their network asked for too many.",
        &stats.rate_limited,
    );
    page.counter(
        "dns_slipped_total",
        "DNS requests over UDP sent to TCP, or to a cookie, because their network asked for too many.",
        &stats.slipped,
    );
    page.counter(
        "dns_bad_cookies_total",
        "DNS requests over UDP, from networks that are not trusted, with a cookie that proves nothing.",
        &stats.cookies_bad,
    );
    page.counter("dns_unanswered_total", "Requests that got no response.", &stats.unanswered);
    page.counter("dns_unsent_total", "Responses that could not be sent.", &stats.unsent);
    dns_connections(page, stats);
}

fn dns_connections(page: &mut Page, stats: &DnsStats) {
    let open = stats.connections.load(Ordering::Relaxed);
    page.add("dns_tcp_connections", "gauge", "DNS connections that are open.", open);
    page.counter(
        "dns_tcp_connections_refused_total",
        "DNS connections closed at once because there were too many, in all or from their source.",
        &stats.connections_refused,
    );
    page.counter(
        "dns_tcp_connections_displaced_total",
        "Idle DNS connections closed in favour of new ones.",
        &stats.connections_displaced,
    );
    page.counter(
        "dns_tcp_connections_timed_out_total",
        "DNS connections closed because they were idle, or too slow to ask or to take responses.",
        &stats.connections_timed_out,
    );
}
