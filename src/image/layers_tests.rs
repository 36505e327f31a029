use super::super::bundle::find;
use super::*;
use std::io::Cursor;

fn hex(bytes: &[u8]) -> String {
    digest_of(&mut &bytes[..]).unwrap()
}

/// An archive as an engine saves it, of an image with these layers.
fn saved(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let config = serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = config.to_string();
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        serde_json::json!([{ "Config": config_name, "RepoTags": ["a:1"], "Layers": names }]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = header(name, bytes.len() as u64).unwrap();
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, layer) in names.iter().zip(layers) {
        add(name, layer);
    }
    add(&config_name, config.as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap()
}

/// The bytes that an engine is given by a host with the layers below `first`.
fn given(parcel: &Parcel, first: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parcel.parts(first).unwrap() {
        match part {
            Part::Bytes(bytes) => all.extend(bytes),
            Part::Layer(digest, size) => {
                let layer = parcel.layers.iter().find(|layer| layer.digest == digest).unwrap();
                let bytes = fs::read(&layer.file).unwrap();
                let from = usize::try_from(layer.offset).unwrap();
                let bytes = &bytes[from..from + usize::try_from(size).unwrap()];
                assert_eq!(hex(bytes), digest);
                all.extend(bytes);
            }
        }
    }
    all
}

fn files(archive: Vec<u8>) -> HashMap<String, Vec<u8>> {
    let mut files = HashMap::new();
    for entry in Archive::new(Cursor::new(archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
    }
    files
}

#[test]
fn an_archive_is_taken_apart_and_put_together_without_what_a_host_has() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let layers: [&[u8]; 4] = [&[1; 700], &[2; 512], &[1; 700], b"three"];
    let plain = saved(&layers);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain).unwrap();
    for (name, bytes) in [("a_1.tar", plain), ("a_1.tar.gz", encoder.finish().unwrap())] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let bundle = find(folder.path(), "a:1").unwrap().unwrap();
        let parcel = open(&bundle, &cache).unwrap();
        // What was unpacked once is not unpacked again.
        assert_eq!(open(&bundle, &cache).unwrap(), parcel);
        assert_eq!(parcel.layers_from(0).len(), 3, "a layer that appears twice is sent once");
        for (first, count) in [(0, 3), (1, 3), (2, 2), (4, 0)] {
            let files = files(given(&parcel, first));
            assert_eq!(files.len(), 2 + count, "{first}");
            let manifest: serde_json::Value =
                serde_json::from_slice(&files["manifest.json"]).unwrap();
            assert_eq!(manifest[0]["RepoTags"][0], "a:1");
            let config = manifest[0]["Config"].as_str().unwrap();
            assert_eq!(hex(&files[config]), config.trim_end_matches(".json"));
            for (at, layer) in layers.iter().enumerate().skip(first) {
                let held = &files[manifest[0]["Layers"][at].as_str().unwrap()];
                let mut unpacked = Vec::new();
                if is_packed(held) {
                    GzDecoder::new(&held[..]).read_to_end(&mut unpacked).unwrap();
                } else {
                    unpacked.clone_from(held);
                }
                assert_eq!(unpacked, *layer);
            }
        }
        let held = |n: usize| parcel.layers[..n].iter().map(|l| format!("sha256:{}", l.content));
        let images = [held(1).collect(), held(3).collect(), vec!["sha256:x".to_owned()], vec![]];
        assert_eq!(shared(&parcel.layers, &images), 3);
        assert_eq!(shared(&parcel.layers, &[]), 0);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_archive_without_a_layer_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = saved(&[b"one", b"two"]);
    let at = bytes.windows(11).position(|window| window == b"1/layer.tar").unwrap();
    // Another name, and the header's sum with it.
    let mut header = header("2/layer.tar", 3).unwrap();
    header.set_mode(0o644);
    header.set_cksum();
    bytes[at..at + 512].copy_from_slice(header.as_bytes());
    fs::write(folder.path().join("a_1.tar"), bytes).unwrap();
    let bundle = find(folder.path(), "a:1").unwrap().unwrap();
    let error = open(&bundle, folder.path()).unwrap_err();
    assert!(error.to_string().contains("lacks the layer 1/layer.tar"), "{error}");
}
