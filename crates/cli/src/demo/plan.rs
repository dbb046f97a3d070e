//! Who is in the demo, on which ports, and the configuration of each agent.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ringmesh_agent::pki::{Authority, Validity};
use ringmesh_types::name::ClusterName;

use super::Kind;

/// The domain that the demo's agents answer for.
pub(crate) const DOMAIN: &str = "ringmesh.internal";
const CLUSTER: &str = "demo";
/// Nodes with their zones: two in each of three.
const NODES: [(&str, &str); 6] = [
    ("fra-1", "fra"),
    ("fra-2", "fra"),
    ("ams-1", "ams"),
    ("ams-2", "ams"),
    ("lon-1", "lon"),
    ("lon-2", "lon"),
];
const DNS_PORT: u16 = 8_600;
const HTTP_PORT: u16 = 8_500;
const MESH_PORT: u16 = 7_300;
const SIP_PORT: u16 = 15_060;
const NG_PORT: u16 = 12_220;
const LIMITER_PORT: u16 = 18_080;

/// One agent.
#[derive(Debug)]
pub(crate) struct AgentPlan {
    pub(crate) name: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) mesh: SocketAddr,
}

/// One instance and the responder that plays it.
#[derive(Debug)]
pub(crate) struct InstancePlan {
    pub(crate) id: String,
    pub(crate) service: &'static str,
    pub(crate) node: &'static str,
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
}

/// The whole demo.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) agents: Vec<AgentPlan>,
    pub(crate) instances: Vec<InstancePlan>,
}

impl Plan {
    /// Plans the demo and writes certificates and configurations into `folder`.
    pub(crate) fn make(offset: u16, folder: &Path) -> Result<Self, String> {
        let highest = LIMITER_PORT + 10;
        if offset > u16::MAX - highest {
            return Err(format!("--base-offset {offset} is not allowed: 0 to {}", u16::MAX - highest));
        }
        let port = |base: u16, index: usize| base + offset + u16::try_from(index).unwrap_or_default();
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let agents: Vec<AgentPlan> = NODES
            .iter()
            .enumerate()
            .map(|(index, (name, zone))| AgentPlan {
                name,
                zone,
                dns: SocketAddr::new(local, port(DNS_PORT, index)),
                http: SocketAddr::new(local, port(HTTP_PORT, index)),
                mesh: SocketAddr::new(local, port(MESH_PORT, index)),
            })
            .collect();
        let plan = Self { agents, instances: instances(&port) };
        plan.write(folder)?;
        Ok(plan)
    }

    /// The HTTP address of the agent beside an instance.
    pub(crate) fn http_of(&self, instance: &InstancePlan) -> SocketAddr {
        let agent = self.agents.iter().find(|agent| agent.name == instance.node);
        agent.expect("every instance stands beside an agent").http
    }

    fn write(&self, folder: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        let cluster: ClusterName = CLUSTER.parse().map_err(|error| failed(&error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let authority = Authority::generate(&cluster, now).map_err(|error| failed(&error))?;
        std::fs::write(folder.join("ca.pem"), authority.cert_pem()).map_err(|error| failed(&error))?;
        let validity = Validity { not_before_unix_s: now - 3_600, not_after_unix_s: now + 7 * 86_400 };
        for agent in &self.agents {
            let name = agent.name.parse().map_err(|error| failed(&error))?;
            let issued = authority.issue(&cluster, &name, validity).map_err(|error| failed(&error))?;
            for (ending, text) in
                [("pem", issued.cert_pem), ("key", issued.key_pem), ("toml", self.config(agent, folder))]
            {
                let path = folder.join(format!("{}.{ending}", agent.name));
                std::fs::write(path, text).map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    fn config(&self, agent: &AgentPlan, folder: &Path) -> String {
        let seeds: Vec<String> =
            self.agents.iter().take(3).map(|seed| format!("\"{}\"", seed.mesh)).collect();
        let folder = folder.display();
        let mut text = format!(
            "[node]\nname = \"{name}\"\nzone = \"{zone}\"\nregion = \"eu\"\ncluster = \"{CLUSTER}\"\n\
             data_dir = \"{folder}/{name}\"\n\n[mesh]\nlisten = \"{mesh}\"\nseeds = [{seeds}]\n\n\
             [tls]\ncertificate = \"{folder}/{name}.pem\"\nkey = \"{folder}/{name}.key\"\nca = \"{folder}/ca.pem\"\n\n\
             [dns]\nlisten = [\"{dns}\"]\ndomain = \"{DOMAIN}\"\n\n[http]\nlisten = \"{http}\"\n",
            name = agent.name,
            zone = agent.zone,
            mesh = agent.mesh,
            seeds = seeds.join(", "),
            dns = agent.dns,
            http = agent.http,
        );
        for instance in self.instances.iter().filter(|instance| instance.node == agent.name) {
            text.push_str(&service(instance));
        }
        text.push_str("\n[[map]]\nservice = \"limiter\"\n");
        text
    }
}

fn instances(port: &impl Fn(u16, usize) -> u16) -> Vec<InstancePlan> {
    let mut instances = Vec::new();
    let mut add = |service, kind, node: &'static str, number: u8, base: u16, index: usize| {
        instances.push(InstancePlan {
            id: format!("{service}-{node}"),
            service,
            node,
            kind,
            address: SocketAddr::new(loopback(number), port(base, index)),
        });
    };
    add("sip", Kind::Sip, "fra-1", 11, SIP_PORT, 0);
    add("sip", Kind::Sip, "ams-1", 12, SIP_PORT, 1);
    add("sip", Kind::Sip, "lon-1", 13, SIP_PORT, 2);
    add("media", Kind::Rtpengine, "fra-1", 21, NG_PORT, 0);
    add("media", Kind::Rtpengine, "ams-2", 22, NG_PORT, 1);
    add("limiter", Kind::Limiter, "fra-2", 31, LIMITER_PORT, 0);
    add("limiter", Kind::Limiter, "lon-2", 32, LIMITER_PORT, 1);
    instances
}

/// An address of this machine alone: 127.0.0.`number` where the system has it, else 127.0.0.1.
fn loopback(number: u8) -> IpAddr {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number));
    match std::net::UdpSocket::bind((address, 0)) {
        Ok(_) => address,
        Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn service(instance: &InstancePlan) -> String {
    let (protocol, transports, check): (&str, &[&str], &str) = match instance.kind {
        Kind::Sip => ("sip", &["udp", "tcp"], "sip"),
        Kind::Rtpengine => ("ng", &["udp"], "rtpengine"),
        Kind::Limiter => ("http", &["tcp"], "http"),
    };
    let path = if instance.kind == Kind::Limiter { "path = \"/healthz\"\n" } else { "" };
    let mut text = format!(
        "\n[[service]]\nid = \"{}\"\nservice = \"{}\"\ntags = [\"demo\"]\n",
        instance.id, instance.service
    );
    for transport in transports {
        text.push_str(&format!(
            "\n[[service.endpoint]]\nprotocol = \"{protocol}\"\ntransport = \"{transport}\"\n\
             address = \"{}\"\nport = {}\n\n[[service.endpoint.check]]\ntype = \"{check}\"\n\
             interval = \"1s\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2\n{path}",
            instance.address.ip(),
            instance.address.port()
        ));
    }
    text
}
