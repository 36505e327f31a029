//! `/proc/self/mountinfo` and `/etc/fstab`, parsed and edited as pure text.

use super::text::bare;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) source: String,
    pub(super) fstype: String,
}

/// Spaces and their like are octal escapes in both files.
pub(super) fn unescape(field: &str) -> String {
    let mut result = Vec::new();
    let mut bytes = field.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let octal = rest
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                result.push(byte);
                bytes = &rest[3..];
            }
            None => {
                result.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&result).into_owned()
}

pub(super) fn escape(field: &str) -> String {
    field.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011")
}

/// What is mounted at a path: the last mount there, which hides earlier ones.
pub(super) fn mounted_at(mountinfo: &str, path: &str) -> Option<Mounted> {
    mountinfo.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let at = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        (unescape(at) == path).then_some(())?;
        let (fstype, source) = (right.next()?, right.next()?);
        Some(Mounted { source: unescape(source), fstype: fstype.to_owned() })
    })
}

/// Fields of an fstab line; `None` for comments and blank lines.
fn fields(line: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bare(line)).ok()?;
    let fields: Vec<String> = text.split_ascii_whitespace().map(unescape).collect();
    (fields.len() >= 3 && !fields[0].starts_with('#')).then_some(fields)
}

/// fstab with exactly this line for `path`, or (`None`) without one. Other bytes stay.
pub(super) fn with_entry(fstab: &[u8], path: &str, entry: Option<&str>) -> Vec<u8> {
    let mut result = Vec::new();
    let mut placed = false;
    for line in fstab.split_inclusive(|byte| *byte == b'\n') {
        let ours = fields(line).is_some_and(|fields| fields[1] == path);
        match (ours, entry) {
            (false, _) => result.extend_from_slice(line),
            (true, Some(entry)) if !placed => {
                placed = true;
                result.extend_from_slice(entry.as_bytes());
                result.extend_from_slice(&line[bare(line).len()..]);
            }
            (true, _) => {}
        }
    }
    if let Some(entry) = entry.filter(|_| !placed) {
        if result.last().is_some_and(|last| *last != b'\n') {
            result.push(b'\n');
        }
        result.extend_from_slice(entry.as_bytes());
        result.push(b'\n');
    }
    result
}

/// fstab with its swap lines turned into comments.
pub(super) fn without_swap(fstab: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    for line in fstab.split_inclusive(|byte| *byte == b'\n') {
        if fields(line).is_some_and(|fields| fields[2] == "swap") {
            result.extend_from_slice(b"# off by strata: ");
        }
        result.extend_from_slice(line);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_edits_keep_foreign_lines() {
        let fstab = b"# root\nUUID=1 / ext4 defaults 0 1\n/dev/sdb /srv/my\\040data xfs noatime 0 2\nUUID=2 none swap sw 0 0";
        let entry = "/dev/sdb /srv/my\\040data ext4 defaults 0 2";
        let once = with_entry(fstab, "/srv/my data", Some(entry));
        assert_eq!(with_entry(&once, "/srv/my data", Some(entry)), once);
        assert!(String::from_utf8_lossy(&once).contains(entry));
        assert_eq!(with_entry(fstab, "/other", None), fstab);
        let off = without_swap(fstab);
        assert!(
            String::from_utf8_lossy(&off).ends_with("# off by strata: UUID=2 none swap sw 0 0")
        );
        assert_eq!(without_swap(&off), off);
    }

    #[test]
    fn the_last_mount_counts() {
        let info = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw shared:1 - xfs /dev/sdb rw\n3 2 0:5 / /srv rw - tmpfs tmpfs rw\n";
        assert_eq!(mounted_at(info, "/srv").unwrap().fstype, "tmpfs");
        assert_eq!(mounted_at(info, "/").unwrap().source, "/dev/sda1");
        assert_eq!(mounted_at(info, "/none"), None);
        assert_eq!(unescape(&escape("a b\\c\té")), "a b\\c\té");
    }
}
