//! What hosts say that do not keep to the protocol: liars, and versions newer than this one.

use ringmesh_gossip::message::Push;
use ringmesh_types::body::Standing;
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Identity, Version};
use ringmesh_types::sealed::{Accusation, Evidence, Seal, Statement, Verified};

use super::faults::LIES_EVERY;
use super::stage::{Act, Stage};
use crate::scenario::Lie;
use crate::seal::{NEWER_FIELD, SimSealer};

/// What no version knows yet: a variant of a push that does not exist.
const UNKNOWN_PUSH: [u8; 4] = [1, 200, 7, 7];

/// A topic of which this version knows nothing.
pub(crate) const NEWER_TOPIC: &str = "weather/today";

impl Stage {
    /// One round of lies.
    pub(crate) fn lie(&mut self, liar: usize) {
        let Some((lie, about)) = self.lies.get(&liar).cloned() else {
            return;
        };
        self.arm(self.now().after(LIES_EVERY), Act::Lies(liar));
        if self.conditions[liar].runs_since.is_none() {
            return;
        }
        let others: Vec<usize> = (0..self.hosts())
            .filter(|host| *host != liar && self.conditions[*host].runs_since.is_some())
            .collect();
        if lie == Lie::Contradict {
            self.contradict(liar, &others);
            return;
        }
        let is_victim = |host: &&usize| about.as_ref().is_none_or(|about| about.contains(*host));
        for victim in others.iter().filter(is_victim) {
            let Some(statement) = self.untruth(lie, liar, *victim, &others) else {
                continue;
            };
            // It does not tell its victim, who would refute.
            for told in others.iter().filter(|told| *told != victim) {
                self.world.forge_push(liar, *told, &Push::Statements(vec![statement.clone()]));
            }
        }
    }

    fn untruth(&mut self, lie: Lie, liar: usize, victim: usize, others: &[usize]) -> Option<Statement> {
        let node = self.world.node(victim)?;
        match lie {
            Lie::Contradict => None,
            Lie::Accuse => Some(self.accusation(liar, liar, victim)),
            Lie::Forge => {
                let accuser = others.iter().copied().find(|host| *host != victim)?;
                Some(self.accusation(accuser, liar, victim))
            }
            Lie::ForgeLeave => {
                let documents = node.documents_of(node.id());
                let stored = documents.iter().find(|stored| stored.node_body().is_some())?;
                let (node_document, mut body) = (&stored.document, stored.node_body()?.clone());
                body.standing = Standing::Left;
                let sequence = node_document.version.sequence + 1;
                let document = Document {
                    key: node_document.key.clone(),
                    version: Version { sequence, ..node_document.version },
                    body: body.to_bytes().ok()?.into(),
                    seal: Seal([0; 64]),
                };
                Some(self.sealed(liar, document))
            }
            Lie::Replay => {
                // What the victim itself said when the lies began: true then.
                let documents = node.documents_of(node.id());
                let mut said = documents.iter().map(|stored| &stored.document);
                let said = said.find(|document| document.key.topic.as_str() == Topic::HEALTH)?;
                let old = self.replayed.entry((liar, victim)).or_insert_with(|| Document::clone(said));
                Some(Statement::Document(old.clone()))
            }
        }
    }

    /// Says one thing to every other host and another thing, of the same version, to the rest.
    fn contradict(&mut self, liar: usize, others: &[usize]) {
        let Some(node) = self.world.node(liar) else {
            return;
        };
        let key = Key { owner: node.id(), topic: "mood/today".parse().expect("a valid topic") };
        let sequence = self.now().since(self.begin).as_secs() + 1;
        let version = Version { epoch: node.identity().epoch, sequence };
        let say = |mood: &[u8]| {
            let document = Document { key: key.clone(), version, body: mood.into(), seal: Seal([0; 64]) };
            self.sealed(liar, document)
        };
        let moods = [say(b"good"), say(b"bad")];
        for (told, statement) in others.iter().zip(moods.iter().cycle()) {
            self.world.forge_push(liar, *told, &Push::Statements(vec![statement.clone()]));
        }
    }

    /// What `signer` seals in the name of `accuser`.
    fn accusation(&self, accuser: usize, signer: usize, victim: usize) -> Statement {
        let Identity { id, epoch, revival, .. } =
            self.world.node(victim).expect("a victim of a lie runs").identity();
        let accusation = Accusation {
            accuser: self.world.id(accuser),
            subject: id,
            epoch,
            revival,
            incarnation: self.world.node(victim).map_or(0, ringmesh_node::Node::incarnation),
            evidence: Evidence::ProbeUnanswered,
            sequence: self.now().as_nanos(),
            seal: Seal([0; 64]),
        };
        let sealer = SimSealer::of(self.world.id(signer));
        Statement::Accusation(Verified::seal_accusation(accusation, &sealer).into_inner())
    }

    fn sealed(&self, signer: usize, document: Document) -> Statement {
        let sealed = Verified::seal_document(document, &SimSealer::of(self.world.id(signer)));
        Statement::Document(sealed.expect("it is as small as the true one").into_inner())
    }

    /// Says what only a newer version understands: a topic and a message. From its next start on, its documents of all
    /// topics have a field that no other knows.
    pub(crate) fn speak_newer(&mut self, host: usize) {
        let Some(node) = self.world.node(host) else {
            return;
        };
        let epoch = node.identity().epoch;
        let topic: Topic = NEWER_TOPIC.parse().expect("a valid topic");
        let body = NEWER_FIELD.into();
        let document = Document {
            key: Key { owner: node.id(), topic },
            version: Version { epoch, sequence: 1 },
            body,
            seal: Seal([0; 64]),
        };
        self.conditions[host].is_newer = true;
        self.world.install_newer(host);
        let statement = self.sealed(host, document);
        for told in (0..self.hosts()).filter(|told| *told != host) {
            self.world.forge_push(host, told, &Push::Statements(vec![statement.clone()]));
            self.world.forge_stream(host, told, UNKNOWN_PUSH.to_vec());
            self.world.forge_datagram(host, told, UNKNOWN_PUSH.to_vec());
        }
    }
}
