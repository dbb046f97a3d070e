//! The lines of an event stream, made events. WHATWG HTML, "Server-sent events", "Interpreting an event stream": partial, without
//! ids, retry times and a leading mark of byte order, none of which the agent sends.

/// Bytes of a line, and of an event's data, at most.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// Something that the agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Why a stream is read no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerStreamError {
    #[error("the agent sent a line, or an event, of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the agent sent a line that is no UTF-8")]
    NotText,
}

/// Cuts a stream into events, however it is cut into chunks.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
}

impl Stream {
    /// More of the stream came: the events that it completes.
    pub(crate) fn read(&mut self, mut chunk: &[u8]) -> Result<Vec<Event>, PeerStreamError> {
        let mut events = Vec::new();
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.extend(&chunk[..end])?;
            chunk = &chunk[end + 1..];
            let line = core::mem::take(&mut self.line);
            let text = core::str::from_utf8(&line).map_err(|_| PeerStreamError::NotText)?;
            events.extend(self.on_line(text.strip_suffix('\r').unwrap_or(text))?);
        }
        self.extend(chunk)?;
        Ok(events)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), PeerStreamError> {
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            return Err(PeerStreamError::TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn on_line(&mut self, line: &str) -> Result<Option<Event>, PeerStreamError> {
        if line.is_empty() {
            let (name, data) = (core::mem::take(&mut self.name), core::mem::take(&mut self.data));
            return Ok(core::mem::take(&mut self.has_data).then_some(Event { name, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.data.len() + value.len() >= LINE_BYTES_MAX {
                    return Err(PeerStreamError::TooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments, which keep the connection alive, and fields of later agents.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let text =
            ": hello\n\nevent: map\r\ndata: {}\r\n\r\ndata:a\ndata: b\n\nevent: hosts\n\nid: 7\ndata\n\n";
        let want = vec![event("map", "{}"), event("", "a\nb"), event("", "")];
        for size in 1..text.len() {
            let mut stream = Stream::default();
            let read = |chunk| stream.read(chunk).expect("is a stream");
            let events: Vec<Event> = text.as_bytes().chunks(size).flat_map(read).collect();
            assert_eq!(events, want, "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut stream = Stream::default();
        let chunk = vec![b'a'; 1 << 20];
        let refused = (0..17).find_map(|_| stream.read(&chunk).err());
        assert_eq!(refused, Some(PeerStreamError::TooLong));
        let mut stream = Stream::default();
        let line = [b"data: ", &*vec![b'a'; 9 << 20], b"\n"].concat();
        assert_eq!(stream.read(&line), Ok(vec![]));
        assert_eq!(stream.read(&line), Err(PeerStreamError::TooLong));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert_eq!(Stream::default().read(b"data: \xff\n"), Err(PeerStreamError::NotText));
    }
}
