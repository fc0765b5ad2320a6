// SPDX-License-Identifier: Apache-2.0
// Section: Evaluation
import CSutureTypes
import Suture

final class EvaluationBox: HandleBox {
    private let state: Changing<Evaluation>
    var evaluation: Evaluation { state.value }

    init(_ evaluation: Evaluation) { state = Changing(evaluation, name: "evaluation") }

    func change(_ body: (inout Evaluation) throws -> Void) throws { try state.change(body) }
}

func evaluation(_ handle: UnsafePointer<suture_evaluation>?) throws -> EvaluationBox {
    try object(handle, "evaluation", as: EvaluationBox.self)
}

/// Begins running metrics of a SAE over a stream of tokens. Memory does not grow with the tokens.
/// The SAE is kept as it is now, and may be released before the evaluation. *out is the caller's, to
/// be released with suture_evaluation_destroy().
@c
public func suture_evaluation_create(
    _ sae: UnsafePointer<suture_sae>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_evaluation>?>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let out = try required(out, "out")
        out.pointee = makeHandle(EvaluationBox(Evaluation(sae)), as: suture_evaluation.self)
    }
}

/// Sets the norm up to which tokens are ordinary, before the first token: those beyond it count in the
/// metrics of all tokens, and not in those of ordinary ones. Infinity, as at the beginning: all are.
/// See suture_norm_bound().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a bound that is NaN, 0 or negative, or after the first
/// token.
@c
public func suture_evaluation_set_norm_bound(
    _ evaluation: UnsafeMutablePointer<suture_evaluation>?, _ norm_bound: Double
) -> suture_status {
    boundary {
        let box = try SutureABI.evaluation(evaluation.map { UnsafePointer($0) })
        try box.change { try $0.setNormBound(norm_bound) }
    }
}

/// Adds tokens x (N, d_in) of any element type. The same calls give the same bits for any number of
/// threads. On any error, cancelling included, the evaluation is as it was before the call. Until it
/// returns, other calls see the evaluation as it was before; another update of it meanwhile, as from
/// the progress callback, gets SUTURE_ERROR_INVALID_ARGUMENT.
///
/// Errors: as suture_sae_encode().
@c
public func suture_evaluation_update(
    _ evaluation: UnsafeMutablePointer<suture_evaluation>?, _ x: UnsafePointer<suture_matrix>?,
    _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.evaluation(evaluation.map { UnsafePointer($0) })
        let x = try matrix(x, "x", cols: (box.evaluation.sae.dIn, "d_in"))
        try box.change { try $0.update(x, progress: SutureABI.progress(progress)) }
    }
}

/// Metrics over all tokens so far, each computed over the whole stream (not averaged over calls).
/// explained_variance and fvu are NaN if the tokens do not vary. Tokens that are zero do not count
/// for cosine and norm_ratio. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT before the first token.
@c
public func suture_evaluation_report_get(
    _ evaluation: UnsafePointer<suture_evaluation>?, _ out: UnsafeMutablePointer<suture_evaluation_report>?
) -> suture_status {
    boundary {
        let evaluation = try SutureABI.evaluation(evaluation).evaluation
        let out = try required(out, "out")
        let metrics = try evaluation.report()
        var report = suture_evaluation_report()
        report.tokens = UInt64(metrics.tokens)
        report.explained_variance = metrics.explainedVariance
        report.fvu = metrics.fvu
        report.l0 = metrics.l0
        report.dead_fraction = metrics.deadFraction
        report.mse = metrics.mse
        report.cosine = metrics.cosine
        report.norm_ratio = metrics.normRatio
        report.norm_bound = evaluation.normBound
        report.beyond = UInt64(metrics.beyond)
        report.share_beyond = metrics.shareBeyond
        report.tokens_ordinary = UInt64(metrics.ordinary.tokens)
        report.explained_variance_ordinary = metrics.ordinary.explainedVariance
        report.fvu_ordinary = metrics.ordinary.fvu
        report.l0_ordinary = metrics.ordinary.l0
        report.mse_ordinary = metrics.ordinary.mse
        report.cosine_ordinary = metrics.ordinary.cosine
        report.norm_ratio_ordinary = metrics.ordinary.normRatio
        try writeReport(report, to: out, "out")
    }
}

/// For each latent the fraction of tokens on which it fired, and its largest activation (0 where it
/// never fired): (d_sae) each. Either pointer may be NULL.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT before the first token.
@c
public func suture_evaluation_features(
    _ evaluation: UnsafePointer<suture_evaluation>?, _ frequency: UnsafeMutablePointer<Double>?,
    _ maximum: UnsafeMutablePointer<Float>?
) -> suture_status {
    boundary {
        let evaluation = try SutureABI.evaluation(evaluation).evaluation
        let (frequencies, maxima) = (try evaluation.frequencies(), try evaluation.maxima())
        for latent in frequencies.indices {
            frequency?[latent] = frequencies[latent]
            maximum?[latent] = maxima[latent]
        }
    }
}

/// Releases an evaluation. Accepts NULL.
@c
public func suture_evaluation_destroy(_ evaluation: UnsafeMutablePointer<suture_evaluation>?) {
    destroyHandle(evaluation)
}
