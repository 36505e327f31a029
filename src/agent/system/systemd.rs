//! systemd over its own socket: no program is started, and nothing is asked for that nobody reads.
//! What goes over it are D-Bus messages between systemd and us; no bus has to run for that.

use crate::resource::UnitStatus;
use rustix::process::getuid;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, to_bytes};
use zbus::{OwnedObjectPath, Signature, Type, Variant};

/// Where systemd answers root, also before there is a bus.
const SOCKET: &str = "/run/systemd/private";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// Longer than any answer, however busy the host.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest message that is read: the units of a batch take a few KiB.
const LONGEST: usize = 4 * 1024 * 1024;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// Header fields of the D-Bus specification.
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR_NAME: u8 = 4;
    pub const REPLY_SERIAL: u8 = 5;
    pub const SIGNATURE: u8 = 8;
}

/// States of units, in the order of their names: what `systemctl show` would say of them. With
/// `by_links` the links say which are enabled: systemd has not read all of them.
///
/// # Errors
/// When systemd's socket is not there or not for us, and when systemd refuses a name.
pub(super) fn units(names: &[String], by_links: bool) -> io::Result<Vec<UnitStatus>> {
    let mut systemd = Systemd::connect()?;
    let list = Call {
        path: MANAGER,
        interface: MANAGER_INTERFACE,
        member: "ListUnitsByNames",
        signature: "as",
        body: body(&names)?,
    };
    let listed: Vec<Listed> = match systemd.ask(&[list])?.as_slice() {
        [answer] => value(answer)?,
        _ => return Err(broken("no answer")),
    };
    if listed.len() != names.len() {
        return Err(broken("another number of units than was asked for"));
    }
    let mut calls = Vec::with_capacity(2 * listed.len());
    let by_links = |unit: &Listed| by_links && unit.load != "not-found";
    for unit in &listed {
        calls.push(match by_links(unit) {
            true => unit.file_state()?,
            false => unit.property("UnitFileState")?,
        });
        calls.push(unit.property("NeedDaemonReload")?);
    }
    let answers = systemd.ask(&calls)?;
    let both = answers.chunks_exact(2);
    let statuses = listed.into_iter().zip(both).map(|(unit, answers)| {
        let file = match by_links(&unit) {
            true => value(&answers[0])?,
            false => {
                String::try_from(value::<Variant<'_>>(&answers[0])?).map_err(io::Error::other)?
            }
        };
        let needs_reload =
            bool::try_from(value::<Variant<'_>>(&answers[1])?).map_err(io::Error::other)?;
        let Listed { load, active, sub, .. } = unit;
        Ok(UnitStatus { load, active, sub, file, needs_reload })
    });
    statuses.collect()
}

/// A unit as `ListUnitsByNames` tells of it; its fields in their order.
#[derive(Deserialize, Type)]
struct Listed {
    name: String,
    _description: String,
    load: String,
    active: String,
    sub: String,
    _following: String,
    path: OwnedObjectPath,
    _job: u32,
    _job_type: String,
    _job_path: OwnedObjectPath,
}

impl Listed {
    fn property(&self, name: &str) -> io::Result<Call<'_>> {
        Ok(Call {
            path: self.path.as_str(),
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
            body: body(&("org.freedesktop.systemd1.Unit", name))?,
        })
    }

    /// The property of this name is as old as systemd's last reading; this is what the links say.
    fn file_state(&self) -> io::Result<Call<'_>> {
        Ok(Call {
            path: MANAGER,
            interface: MANAGER_INTERFACE,
            member: "GetUnitFileState",
            signature: "s",
            body: body(&self.name)?,
        })
    }
}

/// What is asked.
struct Call<'a> {
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    signature: &'a str,
    body: Vec<u8>,
}

/// What stands before the body of a message.
#[derive(Serialize, Deserialize, Type)]
struct Header<F: Type> {
    endian: u8,
    kind: u8,
    flags: u8,
    version: u8,
    body: u32,
    serial: u32,
    fields: Vec<(u8, F)>,
}

/// A header field that is written.
#[derive(Type)]
#[zbus(signature = "v")]
enum Field<'a> {
    Path(&'a str),
    Text(&'a str),
    /// Types of the body's values: no brackets around them, which a signature of the library has.
    Types(&'a str),
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (signature, text) = match self {
            Self::Path(text) => (Signature::ObjectPath, text),
            Self::Text(text) => (Signature::Str, text),
            Self::Types(text) => (Signature::Signature, text),
        };
        let mut variant = serializer.serialize_struct("Variant", 2)?;
        variant.serialize_field("signature", &signature)?;
        variant.serialize_field("value", text)?;
        variant.end()
    }
}

/// An answer's body.
type Answer = Data<'static, 'static>;

struct Systemd {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Systemd {
    fn connect() -> io::Result<Self> {
        let stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // systemd compares the number with what the kernel says of us.
        let user: String =
            getuid().as_raw().to_string().bytes().map(|digit| format!("{digit:x}")).collect();
        (&stream).write_all(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        (&mut stream).take(256).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(broken("not let in"));
        }
        Ok(Self { stream, serial: 0 })
    }

    /// Sends all calls at once and waits for all answers.
    fn ask(&mut self, calls: &[Call<'_>]) -> io::Result<Vec<Answer>> {
        let first = self.serial + 1;
        let mut bytes = Vec::new();
        for call in calls {
            self.serial += 1;
            bytes.extend(message(call, self.serial)?);
        }
        self.stream.get_mut().write_all(&bytes)?;
        let mut answers: Vec<Option<Answer>> = calls.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            // systemd tells everybody on this socket of its jobs: such signals answer no call.
            let Some((serial, answer)) = read(&mut self.stream)? else { continue };
            if let Some(place) = serial.checked_sub(first).and_then(|i| answers.get_mut(i as usize))
            {
                *place = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

fn message(call: &Call<'_>, serial: u32) -> io::Result<Vec<u8>> {
    let header = Header {
        endian: b'l',
        kind: METHOD_CALL,
        flags: 0,
        version: 1,
        body: u32::try_from(call.body.len()).map_err(io::Error::other)?,
        serial,
        fields: vec![
            (field::PATH, Field::Path(call.path)),
            (field::INTERFACE, Field::Text(call.interface)),
            (field::MEMBER, Field::Text(call.member)),
            (field::SIGNATURE, Field::Types(call.signature)),
        ],
    };
    let mut bytes = body(&header)?;
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&call.body);
    Ok(bytes)
}

/// Reads one message: the call that it answers, and its body. `None` for what answers no call.
fn read(from: &mut impl Read) -> io::Result<Option<(u32, Answer)>> {
    let mut bytes = vec![0; 16];
    from.read_exact(&mut bytes)?;
    let endian = match bytes[0] {
        b'l' => Endian::Little,
        b'B' => Endian::Big,
        _ => return Err(broken("no D-Bus message")),
    };
    let number = |at: usize| {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let number = match endian {
            Endian::Little => u32::from_le_bytes(four),
            Endian::Big => u32::from_be_bytes(four),
        };
        (number as usize <= LONGEST).then_some(number as usize).ok_or(broken("a message too long"))
    };
    let (body, fields) = (number(4)?, number(12)?);
    let start = (16 + fields).next_multiple_of(8);
    bytes.resize(start + body, 0);
    from.read_exact(&mut bytes[16..])?;
    let message = Data::new(bytes, Context::new(endian, 0));
    let (header, _): (Header<Variant<'_>>, usize) =
        message.deserialize().map_err(io::Error::other)?;
    let find = |wanted| header.fields.iter().find(|(code, _)| *code == wanted);
    let Some((_, Variant::U32(serial))) = find(field::REPLY_SERIAL) else { return Ok(None) };
    match header.kind {
        METHOD_RETURN => Ok(Some((*serial, message.slice(start..)))),
        ERROR => match find(field::ERROR_NAME) {
            Some((_, Variant::Str(name))) => Err(broken(name)),
            _ => Err(broken("an error without a name")),
        },
        _ => Ok(None),
    }
}

fn body<T: Serialize + Type>(value: &T) -> io::Result<Vec<u8>> {
    let bytes = to_bytes(Context::new(Endian::Little, 0), value).map_err(io::Error::other)?;
    Ok(bytes.to_vec())
}

fn value<'a, T: Deserialize<'a> + Type>(answer: &'a Answer) -> io::Result<T> {
    answer.deserialize().map(|(value, _)| value).map_err(io::Error::other)
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("systemd answered with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the specification lays it out: fixed part, fields, padding, body.
    fn bytes(kind: u8, serial: u32, fields: &[(u8, Variant<'_>)], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        let (endian, flags, version) = (b'l', 1, 1);
        let fields = fields.to_vec();
        let header = Header { endian, kind, flags, version, body: length, serial, fields };
        let mut bytes = body(&header).unwrap();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        [bytes, content.to_vec()].concat()
    }

    #[test]
    fn a_call_is_laid_out_as_specified() {
        let call = Call {
            path: "/a",
            interface: "b.c",
            member: "Get",
            signature: "ss",
            body: body(&("x", "yz")).unwrap(),
        };
        let expected: &[&[u8]] = &[
            b"l\x01\x00\x01\x0f\0\0\0\x07\0\0\0\x38\0\0\0",
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0b.c\0\0\0\0\0",
            b"\x03\x01s\0\x03\0\0\0Get\0\0\0\0\0",
            b"\x08\x01g\0\x02ss\0",
            b"\x01\0\0\0x\0\0\0\x02\0\0\0yz\0",
        ];
        assert_eq!(message(&call, 7).unwrap(), expected.concat());
    }

    #[test]
    fn signals_are_passed_over_and_errors_are_named() {
        let content = body(&Variant::from("enabled")).unwrap();
        let stream = [
            bytes(4, 1, &[(field::PATH, Variant::from("/"))], b""),
            bytes(METHOD_RETURN, 2, &[(field::REPLY_SERIAL, Variant::U32(9))], &content),
            bytes(
                ERROR,
                3,
                &[
                    (field::REPLY_SERIAL, Variant::U32(10)),
                    (field::ERROR_NAME, Variant::from("org.freedesktop.DBus.Error.InvalidArgs")),
                ],
                b"",
            ),
        ]
        .concat();
        let mut from = &stream[..];
        assert!(read(&mut from).unwrap().is_none());
        let (serial, answer) = read(&mut from).unwrap().unwrap();
        assert_eq!(serial, 9);
        assert_eq!(value::<Variant<'_>>(&answer).unwrap(), Variant::from("enabled"));
        assert!(read(&mut from).unwrap_err().to_string().ends_with("Error.InvalidArgs"));
        assert!(read(&mut from).is_err(), "the end of the stream");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"l\x02\x00\x01\xff\xff\xff\xff\x07\0\0\0\x3d\0\0\0",
            b"l\x02\x00\x01\0\0\0\0\x07\0\0\0\xff\xff\xff\xff",
            b"l\x02\x00\x01\0\0\0\0\x07\0\0\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(read(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }
}
