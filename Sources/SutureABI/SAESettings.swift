// SPDX-License-Identifier: Apache-2.0
import CSutureTypes
import Suture

/// A suture_sae_config, checked as far as it can be without the weights.
struct SAESettings {
    let config: suture_sae_config
    let dIn: Int
    let dSAE: Int
    let k: Int
    let normalization: Normalization
    let architectureName: String

    init(_ pointer: UnsafePointer<suture_sae_config>?) throws {
        let config = try SutureABI.config(pointer, "config", defaults: suture_sae_config())
        func size(_ value: Int64, _ name: String) throws -> Int {
            guard value >= 1, value <= Int64(sizeLimit) else {
                throw SutureError.invalidArgument("config->\(name) is \(value), expected 1 to \(sizeLimit)")
            }
            return Int(value)
        }
        func flag(_ value: Int32, _ name: String) throws {
            guard value == 0 || value == 1 else {
                throw SutureError.invalidArgument("config->\(name) is \(value), expected 0 or 1")
            }
        }
        self.config = config
        dIn = try size(config.d_in, "d_in")
        dSAE = try size(config.d_sae, "d_sae")
        switch config.architecture {
        case SUTURE_TOPK: architectureName = "topk"
        case SUTURE_BATCHTOPK: architectureName = "batchtopk"
        case SUTURE_JUMPRELU: architectureName = "jumprelu"
        case SUTURE_RELU: architectureName = "relu"
        case SUTURE_GATED: architectureName = "gated"
        default:
            throw SutureError.invalidArgument(
                "config->architecture is \(config.architecture.rawValue), expected SUTURE_TOPK, _BATCHTOPK, _JUMPRELU, _RELU or _GATED"
            )
        }
        let takesK = config.architecture == SUTURE_TOPK || config.architecture == SUTURE_BATCHTOPK
        let least: Int64 = config.architecture == SUTURE_TOPK ? 1 : 0
        if takesK, config.k < least || config.k > config.d_sae {
            throw SutureError.invalidArgument("config->k is \(config.k), expected \(least) to d_sae = \(config.d_sae)")
        }
        k = takesK ? Int(config.k) : 0
        try flag(config.apply_b_dec_to_input, "apply_b_dec_to_input")
        try flag(config.rescale_by_decoder_norm, "rescale_by_decoder_norm")
        switch config.normalization {
        case SUTURE_NORMALIZATION_NONE, suture_normalization(rawValue: 0): normalization = .none
        case SUTURE_NORMALIZATION_FIXED_SCALE: normalization = .fixedScale(config.scale)
        case SUTURE_NORMALIZATION_TOKEN_NORM: normalization = .tokenNorm
        case SUTURE_NORMALIZATION_LAYER_NORM: normalization = .layerNorm
        default:
            throw SutureError.invalidArgument(
                "config->normalization is \(config.normalization.rawValue), expected SUTURE_NORMALIZATION_NONE, _FIXED_SCALE, "
                    + "_TOKEN_NORM or _LAYER_NORM")
        }
    }
}

extension SAEBox {
    /// The named weight, nil where the architecture lacks it.
    func weight(_ which: suture_sae_weight_name) throws -> FloatMatrix? {
        var gated: (gate: FloatMatrix, magnitude: FloatMatrix, scale: FloatMatrix)?
        if case .gated(let gate, let magnitude, let scale) = sae.architecture { gated = (gate, magnitude, scale) }
        switch which {
        case SUTURE_SAE_W_ENC: return sae.encoder
        case SUTURE_SAE_B_ENC: return gated == nil ? sae.encoderBias : nil
        case SUTURE_SAE_W_DEC: return sae.decoder
        case SUTURE_SAE_B_DEC: return sae.decoderBias
        case SUTURE_SAE_THRESHOLD: return threshold
        case SUTURE_SAE_B_GATE: return gated?.gate
        case SUTURE_SAE_B_MAG: return gated?.magnitude
        case SUTURE_SAE_R_MAG: return gated?.scale
        default:
            throw SutureError.invalidArgument("which is \(which.rawValue), expected a suture_sae_weight_name (1 to 8)")
        }
    }
}
