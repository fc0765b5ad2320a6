// SPDX-License-Identifier: Apache-2.0
// Section: Latents of a SAE
// What is known of each latent of a SAE that was carried by pairs, and SAEs of those that one trusts.
import CSutureTypes
import Suture

/// What is known of each latent, as suture_carry_finish() found it. It goes with the SAE as long as its
/// encoder stays: into its folder, through suture_sae_fold(), suture_sae_refit_decoder() and
/// suture_sae_select(). *known is 1 where there is any, else 0, and then nothing else is written. Set
/// out->struct_size first; each array of *out that is not NULL is filled. out may be NULL.
@c
public func suture_sae_evidence(
    _ sae: UnsafePointer<suture_sae>?, _ known: UnsafeMutablePointer<Int32>?,
    _ out: UnsafeMutablePointer<suture_latent_evidence>?
) -> suture_status {
    boundary {
        let evidence = try SutureABI.sae(sae).sae.evidence
        let known = try required(known, "known")
        if let out { try structSize(out, "out", of: suture_latent_evidence.self) }
        known.pointee = evidence == nil ? 0 : 1
        guard let evidence, let out else { return }
        out.pointee.rows = Int64(evidence.rows)
        out.pointee.held_out_rows = Int64(evidence.heldOutRows)
        let (arrays, latents) = (out.pointee, evidence.latents)
        func fill<Value>(
            _ targets: [UnsafeMutablePointer<Value>?],
            _ columns: [(name: String, path: WritableKeyPath<LatentEvidence.Latent, Value>)]
        ) {
            for (target, column) in zip(targets, columns) {
                if let target { write(latents.map { $0[keyPath: column.path] }, to: target) }
            }
        }
        fill(arrays.counts, LatentEvidence.counts)
        fill(arrays.numbers, LatentEvidence.numbers)
    }
}

/// Replaces what is known of the latents, for a copy of a SAE made from its weights; NULL removes it.
/// All arrays are needed. Not for use at the same time as another call on the SAE.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an array that is NULL, negative counts or counts above the
/// number of rows, correlations outside -1 to 1; nothing has changed then.
@c
public func suture_sae_set_evidence(
    _ sae: UnsafeMutablePointer<suture_sae>?, _ evidence: UnsafePointer<suture_latent_evidence>?
) -> suture_status {
    boundary {
        let box = try SutureABI.sae(sae.map { UnsafePointer($0) })
        guard let evidence else { return try box.sae.setEvidence(nil) }
        let given = try config(evidence, "evidence", defaults: suture_latent_evidence())
        var latents = [LatentEvidence.Latent](repeating: .init(), count: box.sae.dSAE)
        func take<Value>(
            _ sources: [UnsafeMutablePointer<Value>?],
            _ columns: [(name: String, path: WritableKeyPath<LatentEvidence.Latent, Value>)]
        ) throws {
            for (source, column) in zip(sources, columns) {
                let source = try required(source, "evidence->\(column.name)")
                for latent in latents.indices { latents[latent][keyPath: column.path] = source[latent] }
            }
        }
        try take(given.counts, LatentEvidence.counts)
        try take(given.numbers, LatentEvidence.numbers)
        try box.sae.setEvidence(
            LatentEvidence(rows: Int(given.rows), heldOutRows: Int(given.held_out_rows), latents: latents))
    }
}

extension suture_latent_evidence {
    /// The arrays, in the order of `LatentEvidence.counts` and `LatentEvidence.numbers`.
    fileprivate var counts: [UnsafeMutablePointer<Int64>?] {
        [source_latent, firings, active_a, active_b, active_both]
    }
    fileprivate var numbers: [UnsafeMutablePointer<Double>?] { [r_squared, correlation] }
}

/// A SAE of latent_count of the latents, in the order given, with their activations as they are; b_dec
/// stays, and what is known of the latents comes along.
///
/// Latents of BatchTopK (as it is used), JumpReLU, ReLU and Gated do not know of one another, and theirs
/// are the same. TopK chooses them against one another: without those left out, others would fire in their
/// places. It becomes JumpReLU, each latent's threshold the order statistic of its pre-activations on the
/// rows of all shard_count matrices of `shards` (each (N, d_in), activations of the SAE's model) with which
/// it fires as often on them as before. All latents of a TopK SAE stay TopK. Other SAEs, and those, need no
/// shards, and shard_count may be 0. *out is the caller's, to be released with suture_sae_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a number that is no latent's or comes twice, no latents, no
/// shards where they are needed, another width, or a value that is not finite; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_sae_select(
    _ sae: UnsafePointer<suture_sae>?, _ latents: UnsafePointer<Int64>?, _ latent_count: Int64,
    _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        guard latent_count >= 1, latent_count <= Int64(sae.dSAE) else {
            throw SutureError.invalidArgument("latent_count is \(latent_count), expected 1 to d_sae = \(sae.dSAE)")
        }
        let chosen = UnsafeBufferPointer(start: try required(latents, "latents"), count: Int(latent_count))
        let views = shard_count == 0 ? [] : try matrices(shards, shard_count, cols: (sae.dIn, "d_in"))
        let out = try required(out, "out")
        let selected = try sae.selecting(
            chosen.map { Int($0) }, firingAsOn: views, progress: SutureABI.progress(progress))
        out.pointee = makeHandle(try SAEBox(selected), as: suture_sae.self)
    }
}
