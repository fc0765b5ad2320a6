// SPDX-License-Identifier: Apache-2.0
// Section: Sparse autoencoders
import CSutureTypes
import Suture

final class SAEBox: HandleBox {
    var sae: SAE
    /// The threshold in memory that stays where it is: BatchTopK's is a number of the SAE.
    let threshold: FloatMatrix?

    init(_ sae: SAE) throws {
        self.sae = sae
        switch sae.architecture {
        case .jumpReLU(let matrix): threshold = matrix
        case .batchTopK(let value, _): threshold = try FloatMatrix(rows: 1, cols: 1) { $0[0] = value }
        case .topK, .relu, .gated: threshold = nil
        }
    }
}

func sae(_ handle: UnsafePointer<suture_sae>?, _ name: String = "sae") throws -> SAEBox {
    try object(handle, name, as: SAEBox.self)
}

/// Builds a sparse autoencoder from weights of any element type; they are copied as float32.
///
/// f = activation(x W_enc + b_enc), x_hat = f W_dec + b_dec, with the options of config. Shapes are
/// those of suture_sae_weight_name. Gated has b_gate, b_mag and r_mag instead of b_enc; JumpReLU
/// has a threshold (1, d_sae) and BatchTopK one (1, 1), compared with the pre-activations (after
/// rescaling by decoder norms, where config asks for it). A matrix that the architecture lacks must
/// be all zeros ({0}). *out is the caller's, to be released with suture_sae_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown enumerator, k outside 1 to d_sae (TopK; BatchTopK, if not 0), a
/// scale that is not above 0, a matrix that is missing, superfluous, of another shape or not finite;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_sae_create(
    _ config: UnsafePointer<suture_sae_config>?, _ weights: UnsafePointer<suture_sae_weights>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let settings = try SAESettings(config)
        let given = try SutureABI.config(weights, "weights", defaults: suture_sae_weights())
        let out = try required(out, "out")
        let (dIn, dSAE) = ((settings.dIn, "d_in"), (settings.dSAE, "d_sae"))
        let one = (1, "1")
        let isGated = settings.config.architecture == SUTURE_GATED
        var present: [String: FloatMatrix] = [:]
        let thresholdCols: (Int, String)?
        switch settings.config.architecture {
        case SUTURE_BATCHTOPK: thresholdCols = (1, "1")
        case SUTURE_JUMPRELU: thresholdCols = dSAE
        default: thresholdCols = nil
        }
        for (name, value, rows, cols) in [
            ("W_enc", given.W_enc, dIn, dSAE), ("b_enc", given.b_enc, one, isGated ? nil : dSAE),
            ("W_dec", given.W_dec, dSAE, dIn), ("b_dec", given.b_dec, one, dIn),
            ("threshold", given.threshold, one, thresholdCols), ("b_gate", given.b_gate, one, isGated ? dSAE : nil),
            ("b_mag", given.b_mag, one, isGated ? dSAE : nil), ("r_mag", given.r_mag, one, isGated ? dSAE : nil),
        ] as [(String, suture_matrix, (Int, String), (Int, String)?)] {
            guard let cols else {
                guard value.data == nil, value.rows == 0, value.cols == 0 else {
                    throw SutureError.invalidArgument(
                        "weights->\(name) is given, but a \(settings.architectureName) SAE has none: expected zeros")
                }
                continue
            }
            guard value.data != nil || value.rows != 0 || value.cols != 0 else {
                throw SutureError.invalidArgument(
                    "weights->\(name) is missing, expected \(rows.0) x \(cols.0) for a \(settings.architectureName) SAE"
                )
            }
            present[name] = try withUnsafePointer(to: value) { pointer in
                let view = try matrix(pointer, "weights->\(name)", rows: rows, cols: cols)
                return try FloatMatrix(rows: view.rows, cols: view.cols) { view.read(into: $0) }
            }
        }
        func weight(_ name: String) throws -> FloatMatrix {
            guard let matrix = present[name] else { throw SutureError.internal("weight \(name) was not read") }
            return matrix
        }
        let architecture: Architecture
        switch settings.config.architecture {
        case SUTURE_BATCHTOPK:
            architecture = .batchTopK(
                threshold: try weight("threshold")[0, 0], k: settings.k > 0 ? settings.k : nil)
        case SUTURE_JUMPRELU: architecture = .jumpReLU(threshold: try weight("threshold"))
        case SUTURE_RELU: architecture = .relu
        case SUTURE_GATED:
            architecture = .gated(
                gateBias: try weight("b_gate"), magnitudeBias: try weight("b_mag"), magnitudeScale: try weight("r_mag"))
        default: architecture = .topK(k: settings.k)
        }
        let encoderBias = isGated ? try FloatMatrix(rows: 1, cols: settings.dSAE) { _ in } : try weight("b_enc")
        let sae = try SAE(
            encoder: try weight("W_enc"), encoderBias: encoderBias, decoder: try weight("W_dec"),
            decoderBias: try weight("b_dec"), architecture: architecture,
            subtractsDecoderBias: settings.config.apply_b_dec_to_input != 0,
            rescalesByDecoderNorm: settings.config.rescale_by_decoder_norm != 0, normalization: settings.normalization)
        out.pointee = makeHandle(try SAEBox(sae), as: suture_sae.self)
    }
}

/// The random start of training: decoder rows of independent normal numbers, normalised to 1,
/// W_enc the transpose of W_dec, biases 0; thresholds 0 for SUTURE_BATCHTOPK, which needs k, and 0.01
/// for SUTURE_JUMPRELU. The same seed gives the same weights.
///
/// Errors: SUTURE_ERROR_UNSUPPORTED for SUTURE_GATED;
/// SUTURE_ERROR_INVALID_ARGUMENT as suture_sae_create(); SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_sae_init(
    _ config: UnsafePointer<suture_sae_config>?, _ seed: UInt64,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let settings = try SAESettings(config)
        let out = try required(out, "out")
        let architecture: Architecture
        switch settings.config.architecture {
        case SUTURE_TOPK: architecture = .topK(k: settings.k)
        case SUTURE_BATCHTOPK:
            guard settings.k > 0 else {
                throw SutureError.invalidArgument("config->k is 0, expected 1 to d_sae = \(settings.dSAE)")
            }
            architecture = .batchTopK(threshold: 0, k: settings.k)
        case SUTURE_JUMPRELU:
            architecture = .jumpReLU(
                threshold: try FloatMatrix(rows: 1, cols: settings.dSAE) {
                    $0.update(repeating: 0.01, count: settings.dSAE)
                })
        case SUTURE_RELU: architecture = .relu
        default:
            throw SutureError.unsupported(
                "config->architecture is \(settings.architectureName), expected topk, batchtopk, jumprelu or relu: a "
                    + "random start is defined for those only")
        }
        let sae = try SAE.random(
            dIn: settings.dIn, dSAE: settings.dSAE, architecture: architecture, seed: seed,
            subtractsDecoderBias: settings.config.apply_b_dec_to_input != 0,
            rescalesByDecoderNorm: settings.config.rescale_by_decoder_norm != 0, normalization: settings.normalization)
        out.pointee = makeHandle(try SAEBox(sae), as: suture_sae.self)
    }
}

/// Shape and behaviour. k is 0 where the architecture has none, scale 0 without a fixed scale. Set
/// out->struct_size first.
@c
public func suture_sae_info(
    _ sae: UnsafePointer<suture_sae>?, _ out: UnsafeMutablePointer<suture_sae_config>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let out = try required(out, "out")
        var config = suture_sae_config()
        config.d_in = Int64(sae.dIn)
        config.d_sae = Int64(sae.dSAE)
        switch sae.architecture {
        case .topK(let k):
            config.architecture = SUTURE_TOPK
            config.k = Int64(k)
        case .batchTopK(_, let k):
            config.architecture = SUTURE_BATCHTOPK
            config.k = Int64(k ?? 0)
        case .jumpReLU: config.architecture = SUTURE_JUMPRELU
        case .relu: config.architecture = SUTURE_RELU
        case .gated: config.architecture = SUTURE_GATED
        }
        config.apply_b_dec_to_input = sae.subtractsDecoderBias ? 1 : 0
        config.rescale_by_decoder_norm = sae.rescalesByDecoderNorm ? 1 : 0
        switch sae.normalization {
        case .none: config.normalization = SUTURE_NORMALIZATION_NONE
        case .fixedScale(let scale):
            config.normalization = SUTURE_NORMALIZATION_FIXED_SCALE
            config.scale = scale
        case .tokenNorm: config.normalization = SUTURE_NORMALIZATION_TOKEN_NORM
        case .layerNorm: config.normalization = SUTURE_NORMALIZATION_LAYER_NORM
        }
        try writeReport(config, to: out, "out")
    }
}

/// A view of one weight in the SAE's own memory, float32: read only, valid while the SAE lives.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown name, or one that the architecture lacks.
@c
public func suture_sae_weight(
    _ sae: UnsafePointer<suture_sae>?, _ which: suture_sae_weight_name, _ out: UnsafeMutablePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let box = try SutureABI.sae(sae)
        let out = try required(out, "out")
        guard let matrix = try box.weight(which) else {
            throw SutureError.invalidArgument(
                "which is \(which.rawValue), expected a weight that a \(box.sae.architecture.name) SAE has")
        }
        var view = suture_matrix()
        view.data = UnsafeMutableRawPointer(mutating: matrix.pointer)
        view.rows = Int64(matrix.rows)
        view.cols = Int64(matrix.cols)
        view.row_stride = Int64(matrix.cols)
        view.dtype = SUTURE_FLOAT32
        out.pointee = view
    }
}

/// A SAE with the same activations and the same output, without options: decoder norms (where the
/// SAE rescales by them), a fixed scale and the subtraction of b_dec become part of the weights.
/// A per-token normalisation cannot be folded and stays. *out is the caller's, to be released with
/// suture_sae_destroy().
@c
public func suture_sae_fold(
    _ sae: UnsafePointer<suture_sae>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let out = try required(out, "out")
        out.pointee = makeHandle(try SAEBox(try sae.folded()), as: suture_sae.self)
    }
}

/// What is known about the SAE, as a JSON object with SAELens' names (model_name, hook_name, ...).
/// *size is the number of bytes with the final NUL; with json NULL, only *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below the number of bytes; nothing is
/// written but *size.
@c
public func suture_sae_metadata(
    _ sae: UnsafePointer<suture_sae>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary { try writeText(try SutureABI.sae(sae).sae.metadata.text(), to: json, capacity: capacity, size: size) }
}

/// Replaces the metadata by a JSON object. Not for use at the same time as another call on the SAE.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if json is no JSON object in UTF-8; nothing has changed then.
@c
public func suture_sae_set_metadata(_ sae: UnsafeMutablePointer<suture_sae>?, _ json: UnsafePointer<CChar>?)
    -> suture_status
{
    boundary {
        let box = try SutureABI.sae(sae.map { UnsafePointer($0) })
        box.sae.metadata = try metadata(json, "json")
    }
}

/// Writes the SAE as a folder in the layout of SAELens v6: cfg.json and sae_weights.safetensors,
/// float32. The folder, and those above it, are made where missing; each file appears whole or not
/// at all. SAELens reads it and computes the same.
///
/// What SAELens has no words for is written as the same function in its words, with the same
/// activations: a fixed scale is folded, decoder norms are folded except for TopK, and BatchTopK
/// becomes JumpReLU with a constant threshold (suture_sae_load() turns that back).
///
/// Errors: SUTURE_ERROR_IO with the path and the system's reason; SUTURE_ERROR_INVALID_ARGUMENT for
/// an empty path or one that is not UTF-8.
@c
public func suture_sae_save(_ sae: UnsafePointer<suture_sae>?, _ folder: UnsafePointer<CChar>?) -> suture_status {
    boundary { try SutureABI.sae(sae).sae.save(to: try string(folder, "folder")) }
}

/// Reads a SAE folder in the layout of SAELens (topk, batchtopk, jumprelu, standard and gated; float32,
/// float64, float16 and bfloat16; configurations before v6 too). What is computed is what SAELens
/// computes: in particular, a scale for "expected_average_only_in" that was not folded after
/// training is not applied. *out is the caller's, to be released with suture_sae_destroy().
///
/// Errors: SUTURE_ERROR_IO if a file cannot be read; SUTURE_ERROR_FORMAT if one is cut short, damaged
/// or contradicts itself; SUTURE_ERROR_UNSUPPORTED for another architecture, or a tensor that it has no
/// use for, by name.
@c
public func suture_sae_load(
    _ folder: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let folder = try string(folder, "folder")
        let out = try required(out, "out")
        out.pointee = makeHandle(try SAEBox(try SAE(folder: folder)), as: suture_sae.self)
    }
}

/// Releases a SAE. Accepts NULL. Views of its weights end with it; codes and evaluations do not.
@c
public func suture_sae_destroy(_ sae: UnsafeMutablePointer<suture_sae>?) { destroyHandle(sae) }
