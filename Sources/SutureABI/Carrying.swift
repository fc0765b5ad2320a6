// SPDX-License-Identifier: Apache-2.0
// Section: Carrying by pairs
// A SAE for another model from rows of both on the same text: the codes of A are regressed on the rows of
// B, and each latent is calibrated to fire as often as in A. No stitch is needed, and no common tokenizer.
import CSutureTypes
import Suture

final class CarryBox: HandleBox {
    private let state: Changing<Carry>

    init(_ carry: Carry) { state = Changing(carry, name: "carry") }

    func change<Result>(_ body: (inout Carry) throws -> Result) throws -> Result {
        var result: Result?
        try state.change { result = try body(&$0) }
        guard let result else { throw SutureError.internal("a carry changed without a result") }
        return result
    }
}

private func carry(_ handle: UnsafeMutablePointer<suture_carry>?) throws -> CarryBox {
    try object(handle.map { UnsafePointer($0) }, "carry", as: CarryBox.self)
}

/// Begins to carry a SAE of model A to a model B whose rows have d_b coordinates. sae may be of any
/// architecture and normalisation; it is kept, and does not change. Set
/// config->struct_size first; zeros are the defaults. Memory: 8 d_b (d_sae + d_b) bytes for the sums and up to 4 d_b bytes for each row of
/// config->sample, and its codes. *out is the caller's, to be released with suture_carry_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a d_b or a setting out of range, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_carry_create(
    _ sae: UnsafePointer<suture_sae>?, _ d_b: Int64, _ config: UnsafePointer<suture_carry_config>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_carry>?>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let given = try SutureABI.config(config, "config", defaults: suture_carry_config())
        var options = CarryOptions()
        if given.ridge != 0 { options.ridge = given.ridge }
        if given.sample != 0 { options.sample = Int(given.sample) }
        if given.rounds != 0 { options.rounds = given.rounds == -1 ? 0 : Int(given.rounds) }
        guard given.skip_decoder == 0 || given.skip_decoder == 1 else {
            throw SutureError.invalidArgument("config->skip_decoder is \(given.skip_decoder), expected 0 or 1")
        }
        options.solvesDecoder = given.skip_decoder == 0
        let out = try required(out, "out")
        out.pointee = makeHandle(CarryBox(try Carry(sae, dB: Int(d_b), options: options)), as: suture_carry.self)
    }
}

/// Adds pairs of rows: row i of a (N, d_in), of the model of the SAE, and of b (N, d_b) are the same text.
/// Some thousand rows a call are best. A wish to cancel is heeded before sums change.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other widths, unequal numbers of rows, or a value that is not
/// finite as float32; SUTURE_ERROR_NUMERICAL for activations beyond float32; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY. In each case nothing has changed.
@c
public func suture_carry_update(
    _ carry: UnsafeMutablePointer<suture_carry>?, _ a: UnsafePointer<suture_matrix>?,
    _ b: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.carry(carry)
        let (a, b) = (try matrix(a, "a"), try matrix(b, "b"))
        try box.change { try $0.update(a: a, b: b, progress: SutureABI.progress(progress)) }
    }
}

/// Makes the SAE for B. With h the rows of B less their mean, S their covariance and C their covariance
/// with the codes of A, the predictors are W = (S + ridge mean(diag S) I)^-1 C. Each latent gets a gain
/// and a bias or threshold such that it fires on as many rows as in A: for SUTURE_TOPK against the token's k-th score,
/// found in rounds; for the other architectures thresholds are order statistics of its own scores, those
/// halfway between the rows where it should fire and the others. Then config->rounds times
/// W goes part of the way that the same regression of what is still missing would go, and is calibrated anew.
/// The decoder is the regression of B's rows on A's codes; suture_sae_refit_decoder() fits it to those that the
/// new SAE has. Latents that never fired, or that B's rows do not predict, never fire.
///
/// site (NULL for none) is where B's rows come from, for the metadata; what was known of A goes to
/// transferred_from. report (NULL for none; set report->struct_size first) gets what was found; firings (d_sae)
/// how often each latent fired in A, r_squared (d_sae) the share of its variance that B's rows predict, by
/// generalised cross-validation, and *fidelity a comparison on the pairs held out (one block of 64 in 16, so that
/// neighbours in a text stand on one side); each may be NULL. The new SAE keeps it too, suture_sae_evidence(). *out and *fidelity are the caller's, to be released with
/// suture_sae_destroy() and suture_fidelity_destroy(). More pairs may be added afterwards. The same calls give
/// the same bits for any number of threads.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT before any rows were added, or while they are being added;
/// SUTURE_ERROR_NUMERICAL if B's rows do not vary, or if a result is beyond float32; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY. On an error nothing is written.
@c
public func suture_carry_finish(
    _ carry: UnsafeMutablePointer<suture_carry>?, _ site: UnsafePointer<suture_site>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?,
    _ report: UnsafeMutablePointer<suture_carry_report>?, _ firings: UnsafeMutablePointer<UInt64>?,
    _ r_squared: UnsafeMutablePointer<Double>?,
    _ fidelity: UnsafeMutablePointer<UnsafeMutablePointer<suture_fidelity>?>?
) -> suture_status {
    boundary {
        let box = try SutureABI.carry(carry)
        let site = try optionalSite(site, "site")
        let out = try required(out, "out")
        if let report { try structSize(report, "report", of: suture_carry_report.self) }
        let (made, found) = try box.change { try $0.finish(site: site, progress: SutureABI.progress(progress)) }
        let handle = try SAEBox(made)
        if let report {
            var values = suture_carry_report()
            values.rows = Int64(found.rows)
            values.held_out_rows = Int64(found.heldOutRows)
            values.silent = Int64(found.silent)
            values.unpredicted = Int64(found.unpredicted)
            values.ridge = found.ridge
            values.seconds = found.seconds
            try writeReport(values, to: report, "report")
        }
        if let firings { write(found.firings, to: firings) }
        if let r_squared { write(found.rSquared, to: r_squared) }
        if let fidelity { fidelity.pointee = makeHandle(FidelityBox(found.fidelity), as: suture_fidelity.self) }
        out.pointee = makeHandle(handle, as: suture_sae.self)
    }
}

/// Releases what was being carried. NULL is fine.
@c
public func suture_carry_destroy(_ carry: UnsafeMutablePointer<suture_carry>?) { destroyHandle(carry) }

/// Carries a probe of model A to model B by moments of paired rows: its logits on A's rows regressed on B's, by
/// ridge regression, with the mean over the pairs as it is. The same as the probe composed with the ridge map from
/// B to A of the same ridge. ridge is relative to the mean variance of B's coordinates, above 0 to 1e12; 0: that of
/// the least generalised cross-validation error of the logits, each output's as a share of its variance.
///
/// site (NULL for none) is where B's rows come from, for the metadata. used_ridge gets the ridge, r_squared
/// (outputs) the share of the variance of each output's logits that B's rows predict, by generalised
/// cross-validation, NaN where an output does not vary or rows are too few; each may be NULL. *out is the
/// caller's, to be released with suture_probe_destroy(); neither moments nor probe changes. The same moments give
/// the same bits for any number of threads.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another width, fewer than two tokens, a ridge out of range, or a side
/// that is the same in all tokens; SUTURE_ERROR_NUMERICAL if no logits vary, or for weights beyond float32;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY. On an error nothing is written.
@c
public func suture_moments_carry_probe(
    _ moments: UnsafePointer<suture_moments>?, _ probe: UnsafePointer<suture_probe>?, _ ridge: Double,
    _ site: UnsafePointer<suture_site>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?, _ used_ridge: UnsafeMutablePointer<Double>?,
    _ r_squared: UnsafeMutablePointer<Double>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        let probe = try SutureABI.probe(probe).probe
        let site = try optionalSite(site, "site")
        let out = try required(out, "out")
        let found = try probe.carried(
            by: moments, ridge: ridge == 0 ? nil : ridge, site: site, progress: SutureABI.progress(progress))
        if let used_ridge { used_ridge.pointee = found.report.ridge }
        if let r_squared { write(found.report.rSquared, to: r_squared) }
        out.pointee = makeHandle(ProbeBox(found.probe), as: suture_probe.self)
    }
}

/// Which pairs of rows are held out when something is carried: writes 1 or 0 for each of `count` pairs that come
/// after `first` others. One block of 64 in 16 is.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if first or count is negative, or their sum no number of rows.
@c
public func suture_carry_held_out(
    _ first: Int64, _ count: Int64, _ out: UnsafeMutablePointer<UInt8>?
) -> suture_status {
    boundary {
        for (name, value) in [("first", first), ("count", count)] where value < 0 || value > 1 << 53 {
            throw SutureError.invalidArgument("\(name) is \(value), expected 0 to 2^53")
        }
        let out = try required(out, "out")
        for row in 0..<Int(count) { out[row] = Carry.isHeldOut(Int(first) + row) ? 1 : 0 }
    }
}
