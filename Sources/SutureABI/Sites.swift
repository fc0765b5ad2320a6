// SPDX-License-Identifier: Apache-2.0
// Section: Sites
import CSutureTypes
import Glibc
import Suture

/// Which stream a name means: TransformerLens' hooks (blocks.4.hook_resid_pre, blocks.3.hook_resid_post),
/// modules of transformers and sparsify's hookpoints (layers.3, model.layers.3, transformer.h.3,
/// gpt_neox.layers.3: each the output of block 3, which is layer 4), hidden_states.4, and the folders of
/// Gemma Scope, Llama Scope and dictionary_learning where they say it. out->model is NULL.
///
/// n_layers is the model's number of blocks, or 0 where it is not known; with it, the last of hidden_states
/// is seen to have passed the final norm, and layers beyond are refused. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a name that nobody can read; the message lists what is
/// understood.
@c
public func suture_site_parse(
    _ name: UnsafePointer<CChar>?, _ n_layers: Int64, _ out: UnsafeMutablePointer<suture_site>?
) -> suture_status {
    boundary {
        let name = try string(name, "name")
        guard n_layers >= 0 else {
            throw SutureError.invalidArgument("n_layers is \(n_layers), expected at least 1, or 0 if it is not known")
        }
        let out = try required(out, "out")
        try write(Site(parsing: name, nLayers: n_layers == 0 ? nil : Int(n_layers)), to: out)
    }
}

/// Where the metadata of a SAE, a probe or a steering vector say that it comes from: model_name, and the
/// stream that hook_name, hf_hook_name or hookpoint mean. out->layer is -1 where they name none. Set
/// out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for what is no JSON object, for a name that nobody can read, and
/// for names that contradict each other.
@c
public func suture_site_read(_ json: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<suture_site>?) -> suture_status
{
    boundary {
        let metadata = try metadata(json, "json")
        try write(Site(of: metadata), to: required(out, "out"))
    }
}

/// The name of a site's residual stream as Suture writes it, blocks.{layer}.hook_resid_pre. *size is the
/// number of bytes with the final NUL; with name NULL, only that is written. "" for other streams, or where
/// the layer is not known.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a site that cannot be, or capacity < *size.
@c
public func suture_site_name(
    _ site: UnsafePointer<suture_site>?, _ name: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let site = try SutureABI.site(required(site, "site"), "site")
        try writeText(site.hookName ?? "", to: name, capacity: capacity, size: size)
    }
}

/// Writes 1 where nothing that is known of both sites says that they differ, else 0. Names of one model:
/// "EleutherAI/pythia-70m", "pythia-70m", a folder of that name; TransformerLens' short names ("gpt2-small"
/// is "openai-community/gpt2"). "pythia-70m-deduped" is another model.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a site that cannot be.
@c
public func suture_site_matches(
    _ site: UnsafePointer<suture_site>?, _ other: UnsafePointer<suture_site>?, _ out: UnsafeMutablePointer<Int32>?
) -> suture_status {
    boundary {
        let site = try SutureABI.site(required(site, "site"), "site")
        let other = try SutureABI.site(required(other, "other"), "other")
        try required(out, "out").pointee = site.matches(other) ? 1 : 0
    }
}

/// A caller's site.
func site(_ pointer: UnsafePointer<suture_site>, _ name: String) throws -> Site {
    let value = try config(pointer, name, defaults: suture_site())
    let model = try value.model.map { try string($0, "\(name)->model") }
    let stream = try value.stream.map { try string($0, "\(name)->stream") } ?? Site.residualName
    guard value.layer >= -1, let layer = Int(exactly: value.layer) else {
        throw SutureError.invalidArgument(
            "\(name)->layer is \(value.layer), expected at least 0, or -1 where it is not known")
    }
    do {
        return try Site(model: model, layer: layer == -1 ? nil : layer, streamName: stream)
    } catch SutureError.invalidArgument(let message) {
        throw SutureError.invalidArgument("\(name)->\(message)")
    }
}

/// Likewise, or nil for NULL.
func optionalSite(_ pointer: UnsafePointer<suture_site>?, _ name: String) throws -> Site? {
    try pointer.map { try site($0, name) }
}

/// This thread's texts of the last site that was written: one block, model and stream.
private let siteTextKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { free($0) }
    return key
}()

private func write(_ site: Site, to out: UnsafeMutablePointer<suture_site>) throws {
    try structSize(UnsafeRawPointer(out), "out", of: suture_site.self)
    let (model, stream) = (Array((site.model ?? "").utf8CString), Array(site.streamName.utf8CString))
    guard let block = malloc(model.count + stream.count) else {
        throw SutureError.outOfMemory("no memory for the names of a site")
    }
    let texts = block.bindMemory(to: CChar.self, capacity: model.count + stream.count)
    for (i, byte) in (model + stream).enumerated() { texts[i] = byte }
    if let old = pthread_getspecific(siteTextKey) { free(old) }
    pthread_setspecific(siteTextKey, block)
    var value = suture_site()
    value.model = site.model == nil ? nil : UnsafePointer(texts)
    value.stream = UnsafePointer(texts + model.count)
    value.layer = Int64(site.layer ?? -1)
    try writeReport(value, to: out, "out")
}
