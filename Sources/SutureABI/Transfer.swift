// SPDX-License-Identifier: Apache-2.0
// Section: Transfer
import CSutureTypes
import Suture

/// Carries a SAE of one model to the other. SUTURE_UP takes one of model A (d_in = d_a) to model B,
/// such that sae'(h) = up(sae(down(h))); SUTURE_DOWN the other way round. Activations are the same
/// numbers up to rounding. Decoder norms, a fixed scale and the subtraction of b_dec are folded
/// first. *out is the caller's, to be released with suture_sae_destroy(); neither stitch nor sae
/// changes.
///
/// The result's metadata names the new model and layer where the stitch knows them (model_b and
/// layer_b, upwards), and keeps those of the old one in transferred_from. site (NULL for none) is where the
/// SAE comes from, in place of what its metadata say.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown direction, sizes that do not match, a model or
/// layer, known on both sides, that is not the stitch's, and, where the stitch knows a layer, a stream that
/// is not the residual one or a name that nobody can read; SUTURE_ERROR_UNSUPPORTED for a SAE
/// with a per-token normalisation, with which no SAE is that composition; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_transfer_sae(
    _ stitch: UnsafePointer<suture_stitch>?, _ sae: UnsafePointer<suture_sae>?, _ direction: suture_direction,
    _ site: UnsafePointer<suture_site>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let sae = try SutureABI.sae(sae).sae
        let direction = try SutureABI.direction(direction)
        let site = try optionalSite(site, "site")
        let out = try required(out, "out")
        let moved = try stitch.transfer(sae, direction: direction, site: site)
        out.pointee = makeHandle(try SAEBox(moved), as: suture_sae.self)
    }
}

/// Carries a steering vector of one model to the other (arXiv 2506.06609, §4): v' = v P_up / |v P_up|, without
/// the bias (SUTURE_DOWN: with P_down). z_mean' is exact with `acts`, acts_count matrices (N, d) of positive
/// activations in the new model; without them (NULL and 0) it is that of the mapped mean,
/// <mean P_up + b_up, v'>. *out is the caller's, to be released with suture_steering_destroy(); neither stitch
/// nor vector changes. Metadata and site as for suture_stitch_transfer_sae().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown direction, sizes that do not match, a model, layer or
/// stream that is not the stitch's, as there, a vector without mean where acts is NULL, or a value that is
/// not finite; SUTURE_ERROR_NUMERICAL if the stitch maps the vector to zero; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY. On an error nothing is written.
@c
public func suture_stitch_transfer_steering(
    _ stitch: UnsafePointer<suture_stitch>?, _ vector: UnsafePointer<suture_steering>?,
    _ direction: suture_direction, _ site: UnsafePointer<suture_site>?, _ acts: UnsafePointer<suture_matrix>?,
    _ acts_count: Int64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_steering>?>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let vector = try SutureABI.steering(vector, "vector").steering
        let direction = try SutureABI.direction(direction)
        let site = try optionalSite(site, "site")
        let width = stitch.map(direction).matrix.cols
        let views =
            acts == nil && acts_count == 0
            ? nil : try matrices(acts, acts_count, "acts", cols: (width, direction == .up ? "d_b" : "d_a"))
        let out = try required(out, "out")
        let moved = try stitch.transfer(
            vector, direction: direction, site: site, acts: views, progress: SutureABI.progress(progress))
        out.pointee = makeHandle(SteeringBox(moved), as: suture_steering.self)
    }
}

private func refitOptions(_ pointer: UnsafePointer<suture_refit_config>?) throws -> DecoderRefitOptions {
    let config = try config(pointer, "config", defaults: suture_refit_config())
    var options = DecoderRefitOptions()
    if config.ridge != 0 { options.ridge = config.ridge }
    if config.tolerance != 0 { options.tolerance = config.tolerance }
    if config.tokens != 0 { options.tokens = Int(config.tokens) }
    options.tiedRounds = Int(config.tied_rounds)
    if config.max_iterations != 0 { options.maxIterations = Int(config.max_iterations) }
    return options
}

/// Solves W_dec and b_dec of a SAE by least squares on activations of its model, with the codes it has
/// now: the encoder stays. What is minimised is the sum over tokens of |x - x_hat|^2, plus config->ridge
/// times the sum over latents of q |row - present row|^2, where q is the mean squared activation of a
/// latent where it fires; so rows of latents that never fire stay. After a transfer this lets decoder
/// rows leave the image of the stitch.
///
/// With config->tied_rounds the encoder then follows, so many times: decoder norms move into the encoder,
/// each encoder column w becomes (w . d) d, where d is its decoder row, its bias such that the mean token
/// gives 0, and the decoder is refitted for the new codes, on other tokens where there are more than
/// config->tokens. This explains far more variance, and activations are no longer those of the SAE as it
/// was.
///
/// The tokens are the rows of all shard_count matrices of `shards` (each (N, d_in), N >= 1, of any
/// element type), or config->tokens of them, taken evenly. They are read twice where they are; memory
/// that maps a file will do. Decoder norms, a fixed scale and the subtraction of b_dec are folded into
/// the weights first, as by suture_sae_fold(). Up to d_sae 4096 the normal equations are factorised
/// (d_sae^2 float64 numbers), above that they are solved by conjugate gradients. Memory beside that: 8
/// bytes an active latent and token (24 with the matrix), and 24 bytes a weight of the decoder. The same
/// calls give the same bits for any number of threads.
///
/// *out is the caller's, to be released with suture_sae_destroy(); sae does not change. report (NULL for
/// none; set report->struct_size first) gets what was done. Not reaching the tolerance is no error.
/// Progress counts each solution as twice its tokens.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another width, no rows, a setting out of range, or a value
/// that is not finite as float32 (named by shard, row and column); SUTURE_ERROR_UNSUPPORTED for a
/// per-token normalisation, and for tied_rounds of other than SUTURE_TOPK; SUTURE_ERROR_NUMERICAL if activations or the result are beyond float32;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY. On an error nothing is written.
@c
public func suture_sae_refit_decoder(
    _ sae: UnsafePointer<suture_sae>?, _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64,
    _ config: UnsafePointer<suture_refit_config>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?,
    _ report: UnsafeMutablePointer<suture_refit_report>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let options = try refitOptions(config)
        let views = try matrices(shards, shard_count, cols: (sae.dIn, "d_in"))
        let out = try required(out, "out")
        if let report { try structSize(report, "report", of: suture_refit_report.self) }
        let found = try sae.refitDecoder(views, options: options, progress: SutureABI.progress(progress))
        let box = try SAEBox(found.sae)
        if let report {
            var values = suture_refit_report()
            values.tokens = UInt64(found.report.tokens)
            values.silent = Int64(found.report.silent)
            values.explained_variance_before = found.report.explainedVarianceBefore
            values.explained_variance_after = found.report.explainedVarianceAfter
            values.flops_executed = found.report.flopsExecuted
            values.seconds = found.report.seconds
            values.residual = found.report.residual
            values.iterations = Int32(found.report.iterations)
            values.converged = found.report.converged ? 1 : 0
            switch found.report.solver {
            case .cholesky: values.solver = SUTURE_REFIT_CHOLESKY
            case .conjugateGradients: values.solver = SUTURE_REFIT_CONJUGATE_GRADIENTS
            }
            try writeReport(values, to: report, "report")
        }
        out.pointee = makeHandle(box, as: suture_sae.self)
    }
}
