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
/// layer_b, upwards), and keeps those of the old one in transferred_from.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown direction, sizes that do not match, or a
/// model or layer, known on both sides, that is not the stitch's; SUTURE_ERROR_UNSUPPORTED for a SAE
/// with a per-token normalisation, with which no SAE is that composition; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_transfer_sae(
    _ stitch: UnsafePointer<suture_stitch>?, _ sae: UnsafePointer<suture_sae>?, _ direction: suture_direction,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let sae = try SutureABI.sae(sae).sae
        let direction = try SutureABI.direction(direction)
        let out = try required(out, "out")
        out.pointee = makeHandle(try SAEBox(try stitch.transfer(sae, direction: direction)), as: suture_sae.self)
    }
}
