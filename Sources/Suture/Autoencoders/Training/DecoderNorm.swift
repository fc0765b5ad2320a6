// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// What training does about the norms of the decoder rows.
public enum DecoderNorm: Sendable, CaseIterable {
    /// Rows have norm 1: a row's gradient loses its component along the row before it enters clipping
    /// and Adam, and the row is divided by its norm after the step (as dictionary_learning and
    /// sparsify do).
    case unit
    /// Rows are divided by their norms after the step, and nothing else (arXiv 2506.06609, §D).
    case unitUnprojected
    /// Rows keep whatever norms they get, from the start on; latents are ranked by pre-activation times
    /// the norm of their row, the length of what they contribute (SAELens: rescale_acts_by_decoder_norm).
    /// SAELens multiplies before the top-k and divides after it, so x_hat and its gradients are the plain
    /// ones of the latents chosen.
    case free

    /// As users write it.
    public var name: String {
        switch self {
        case .unit: return "unit"
        case .unitUnprojected: return "unit_unprojected"
        case .free: return "free"
        }
    }

    /// Takes from `gradient` (count) its component along `row`, which has norm 1.
    func project(_ gradient: UnsafeMutablePointer<Float>, row: UnsafePointer<Float>, count: Int) {
        guard self == .unit else { return }
        sk_axpy(-sk_dot(gradient, row, count), row, gradient, count)
    }

    /// Brings a row to norm 1 after a step; one that became zero stays.
    func normalise(_ row: UnsafeMutablePointer<Float>, count: Int) {
        guard self != .free else { return }
        let norm = sk_dot(row, row, count).squareRoot()
        if norm > 0 { for i in 0..<count { row[i] /= norm } }
    }
}
