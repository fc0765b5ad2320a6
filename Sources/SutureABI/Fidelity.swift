// SPDX-License-Identifier: Apache-2.0
// Section: Fidelity of carried features
// Whether latent i of a SAE that was carried to another model still is the latent i it was made from:
// how their activations agree, token by token. Explained variance does not tell.
import CSutureTypes
import Suture

final class FidelityBox: HandleBox {
    private let state: Changing<Fidelity>
    var fidelity: Fidelity { state.value }

    init(_ fidelity: Fidelity) { state = Changing(fidelity, name: "fidelity") }

    func change(_ body: (inout Fidelity) throws -> Void) throws { try state.change(body) }
}

private func fidelity(_ handle: UnsafePointer<suture_fidelity>?, _ name: String = "fidelity") throws -> FidelityBox {
    try object(handle, name, as: FidelityBox.self)
}

/// Begins to compare two SAEs of d_sae latents each, latent i of one with latent i of the other. Takes
/// 240 bytes a latent, however many rows there are. *out is the caller's, to be released with
/// suture_fidelity_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a d_sae out of range, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_fidelity_create(
    _ d_sae: Int64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_fidelity>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        out.pointee = makeHandle(FidelityBox(try Fidelity(dSAE: Int(d_sae))), as: suture_fidelity.self)
    }
}

/// Adds rows: row t of codes_a and of codes_b belong to the same token. As a control, row t of codes_a
/// also goes with row t + n / 2 of the n rows of this call. The same calls give the same bits for any
/// number of threads. On any error, cancelling included, nothing has changed.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae or unequal numbers of rows;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_fidelity_update(
    _ fidelity: UnsafeMutablePointer<suture_fidelity>?, _ codes_a: UnsafePointer<suture_codes>?,
    _ codes_b: UnsafePointer<suture_codes>?, _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.fidelity(fidelity.map { UnsafePointer($0) })
        let (a, b) = (try codes(codes_a, "codes_a"), try codes(codes_b, "codes_b"))
        try box.change { try $0.update(a: a, b: b, progress: SutureABI.progress(progress)) }
    }
}

/// Adds the rows that other has seen, as if one pass had seen both, up to rounding. other stays as it
/// is.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if the sizes differ, SUTURE_ERROR_OUT_OF_MEMORY; then nothing
/// has changed.
@c
public func suture_fidelity_merge(
    _ fidelity: UnsafeMutablePointer<suture_fidelity>?, _ other: UnsafePointer<suture_fidelity>?
) -> suture_status {
    boundary {
        let box = try SutureABI.fidelity(fidelity.map { UnsafePointer($0) })
        let added = try SutureABI.fidelity(other, "other").fidelity
        try box.change { try $0.merge(added) }
    }
}

/// For each latent, (d_sae) each: Pearson's correlation of its activations in A and B, NaN where a side
/// never varied; its standard error (delta method, rows taken as independent); the correlation with
/// other tokens, a control; and the numbers of rows on which it fired in A, in B and in both. Each
/// out-pointer may be NULL.
@c
public func suture_fidelity_read(
    _ fidelity: UnsafePointer<suture_fidelity>?, _ correlation: UnsafeMutablePointer<Double>?,
    _ standard_error: UnsafeMutablePointer<Double>?, _ control: UnsafeMutablePointer<Double>?,
    _ active_a: UnsafeMutablePointer<UInt64>?, _ active_b: UnsafeMutablePointer<UInt64>?,
    _ active_both: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let fidelity = try SutureABI.fidelity(fidelity).fidelity
        if let correlation { write(fidelity.correlations(), to: correlation) }
        if let standard_error { write(fidelity.standardErrors(), to: standard_error) }
        if let control { write(fidelity.controls(), to: control) }
        let active = fidelity.activeTokens()
        if let active_a { write(active.a, to: active_a) }
        if let active_b { write(active.b, to: active_b) }
        if let active_both { write(active.both, to: active_both) }
    }
}

/// All latents in a few numbers. One rule for all tables: latents that fire at least min_count times in
/// A are judged (10 is usual), and one that is silent in B counts as 0, so that dropping latents never
/// helps. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if min_count is below 1.
@c
public func suture_fidelity_summarize(
    _ fidelity: UnsafePointer<suture_fidelity>?, _ min_count: Int64,
    _ out: UnsafeMutablePointer<suture_fidelity_summary>?
) -> suture_status {
    boundary {
        let fidelity = try SutureABI.fidelity(fidelity).fidelity
        let out = try required(out, "out")
        try structSize(UnsafeRawPointer(out), "out", of: suture_fidelity_summary.self)
        let found = try fidelity.summary(minimum: Int(min_count))
        var result = suture_fidelity_summary()
        result.rows = Int64(fidelity.rows)
        result.judged = Int64(found.judged)
        result.rare = Int64(found.rare)
        result.silent = Int64(found.silent)
        result.correlation = suture_quartiles(found.correlation)
        result.f1 = suture_quartiles(found.f1)
        result.control = suture_quartiles(found.control)
        result.share_active = found.shareActive
        try writeReport(result, to: out, "out")
    }
}

/// Releases a comparison. NULL is fine.
@c
public func suture_fidelity_destroy(_ fidelity: UnsafeMutablePointer<suture_fidelity>?) { destroyHandle(fidelity) }

extension suture_quartiles {
    init(_ quartiles: Fidelity.Quartiles) {
        self.init(lower: quartiles.lower, median: quartiles.median, upper: quartiles.upper)
    }
}
