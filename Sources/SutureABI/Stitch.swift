// SPDX-License-Identifier: Apache-2.0
// Section: Stitches
import CSutureTypes
import Suture

final class StitchBox: HandleBox {
    var stitch: Stitch
    init(_ stitch: Stitch) { self.stitch = stitch }
}

func stitch(_ handle: UnsafePointer<suture_stitch>?, _ name: String = "stitch") throws -> StitchBox {
    try object(handle, name, as: StitchBox.self)
}

func direction(_ value: suture_direction) throws -> Direction {
    switch value {
    case SUTURE_UP: return .up
    case SUTURE_DOWN: return .down
    default: throw SutureError.invalidArgument("direction is \(value.rawValue), expected SUTURE_UP or SUTURE_DOWN")
    }
}

private func method(_ value: suture_stitch_method) throws -> Stitch.Method {
    switch value {
    case SUTURE_METHOD_JOINT: return .joint
    case SUTURE_METHOD_RIDGE: return .ridge
    case SUTURE_METHOD_PROCRUSTES: return .procrustes
    default:
        throw SutureError.invalidArgument(
            "config->method is \(value.rawValue), expected SUTURE_METHOD_JOINT, _RIDGE or _PROCRUSTES")
    }
}

private func form(_ value: suture_objective_form) throws -> ObjectiveForm {
    switch value {
    case SUTURE_OBJECTIVE_SCALED: return .scaled
    case SUTURE_OBJECTIVE_RAW: return .raw
    default:
        throw SutureError.invalidArgument(
            "config->objective is \(value.rawValue), expected SUTURE_OBJECTIVE_SCALED or _RAW")
    }
}

/// Fits the affine maps between two residual streams that minimise the joint objective with
/// inversion penalty config->alpha on the rows that moments has seen. The result is exact: a
/// stationary point reached by descent from least squares (which it is for alpha 0), not a number of
/// gradient steps. float64 inside, float32 weights; the same moments give the same bits for any
/// number of threads. By default each stream's errors are divided by its variance, so that none is
/// drowned by the other's units; the maps are in the units of the activations all the same.
/// config->method has two simpler maps to compare with, from the same moments.
///
/// report may be NULL; else set report->struct_size first. Its objectives are those of the float32
/// weights on the fitted rows. Covariances without full rank get a ridge and a warning bit, and
/// still a usable stitch. Progress is in steps, of an unknown number.
///
/// *out is the caller's, to be released with suture_stitch_destroy(). Its metadata has the tokens,
/// alpha and the objective; add models and layers with suture_stitch_set_metadata().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for settings out of range, fewer than two tokens, or a side
/// that is the same in all tokens; SUTURE_ERROR_NUMERICAL if a ridge that was given is too small;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_fit(
    _ moments: UnsafePointer<suture_moments>?, _ config: UnsafePointer<suture_stitch_config>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_stitch>?>?,
    _ report: UnsafeMutablePointer<suture_stitch_report>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        let settings = try SutureABI.config(config, "config", defaults: suture_stitch_config())
        let out = try required(out, "out")
        if let report { try structSize(UnsafeRawPointer(report), "report", of: suture_stitch_report.self) }
        guard settings.has_ridge == 0 || settings.has_ridge == 1 else {
            throw SutureError.invalidArgument("config->has_ridge is \(settings.has_ridge), expected 0 or 1")
        }
        var options = Stitch.FitOptions(alpha: settings.alpha)
        options.method = try method(settings.method)
        options.form = try form(settings.objective)
        if settings.tolerance != 0 { options.tolerance = settings.tolerance }
        if settings.max_iterations != 0 { options.maxIterations = Int(settings.max_iterations) }
        if settings.has_ridge == 1 { options.ridge = settings.ridge }
        let result = try Stitch.fit(moments, options: options, progress: SutureABI.progress(progress))
        if let report { try writeReport(suture_stitch_report(result.report), to: report, "report") }
        out.pointee = makeHandle(StitchBox(result.stitch), as: suture_stitch.self)
    }
}

/// A stitch from weights: P_up (d_a, d_b), b_up (1, d_b), P_down (d_b, d_a), b_down (1, d_a), of any
/// element types; they are copied, as float32.
///
/// *out is the caller's, to be released with suture_stitch_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for shapes that do not fit together or a value that is not
/// finite; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_create(
    _ P_up: UnsafePointer<suture_matrix>?, _ b_up: UnsafePointer<suture_matrix>?,
    _ P_down: UnsafePointer<suture_matrix>?, _ b_down: UnsafePointer<suture_matrix>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_stitch>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let up = try matrix(P_up, "P_up")
        let upBias = try matrix(b_up, "b_up", rows: (1, "1"), cols: (up.cols, "d_b"))
        let down = try matrix(P_down, "P_down", rows: (up.cols, "d_b"), cols: (up.rows, "d_a"))
        let downBias = try matrix(b_down, "b_down", rows: (1, "1"), cols: (up.rows, "d_a"))
        func weights(_ view: MatrixView, _ name: String) throws -> FloatMatrix {
            try requireFinite(view, name)
            return try FloatMatrix(rows: view.rows, cols: view.cols) { view.read(into: $0) }
        }
        let stitch = try Stitch(
            upMatrix: try weights(up, "P_up"), upBias: try weights(upBias, "b_up"),
            downMatrix: try weights(down, "P_down"), downBias: try weights(downBias, "b_down"))
        out.pointee = makeHandle(StitchBox(stitch), as: suture_stitch.self)
    }
}

/// The sizes of the two streams. Each out-pointer may be NULL.
@c
public func suture_stitch_info(
    _ stitch: UnsafePointer<suture_stitch>?, _ d_a: UnsafeMutablePointer<Int64>?, _ d_b: UnsafeMutablePointer<Int64>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        d_a?.pointee = Int64(stitch.dA)
        d_b?.pointee = Int64(stitch.dB)
    }
}

/// A view of one of the weights, float32, in the stitch's own memory: read it only, and only while
/// the stitch lives.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown weight.
@c
public func suture_stitch_weight(
    _ stitch: UnsafePointer<suture_stitch>?, _ which: suture_stitch_weight_name,
    _ out: UnsafeMutablePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let out = try required(out, "out")
        let weight: FloatMatrix
        switch which {
        case SUTURE_STITCH_P_UP: weight = stitch.upMatrix
        case SUTURE_STITCH_B_UP: weight = stitch.upBias
        case SUTURE_STITCH_P_DOWN: weight = stitch.downMatrix
        case SUTURE_STITCH_B_DOWN: weight = stitch.downBias
        default:
            throw SutureError.invalidArgument(
                "which is \(which.rawValue), expected SUTURE_STITCH_P_UP, _B_UP, _P_DOWN or _B_DOWN")
        }
        out.pointee = suture_matrix(
            data: UnsafeMutableRawPointer(mutating: weight.pointer), rows: Int64(weight.rows), cols: Int64(weight.cols),
            row_stride: Int64(weight.cols), dtype: SUTURE_FLOAT32)
    }
}

/// Maps rows: up, h (N, d_a) to h P_up + b_up (N, d_b); down, h (N, d_b) to h P_down + b_down
/// (N, d_a). h has any element type; out points to a float32 matrix of the caller's. N may be 0.
/// Where d_a = d_b and h is float32, out may be h itself.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes or a value that is not finite,
/// SUTURE_ERROR_CANCELLED; in the last two cases the output may be partly written.
@c
public func suture_stitch_apply(
    _ stitch: UnsafePointer<suture_stitch>?, _ direction: suture_direction, _ h: UnsafePointer<suture_matrix>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let direction = try SutureABI.direction(direction)
        let (from, to) = direction == .up ? ("d_a", "d_b") : ("d_b", "d_a")
        let weights = stitch.map(direction).matrix
        let h = try matrix(h, "h", cols: (weights.rows, from), minimumRows: 0)
        if h.rows == 0 {
            _ = try matrix(out, "out", rows: (0, "the rows of h"), cols: (weights.cols, to), minimumRows: 0)
            return
        }
        let output = try outputMatrix(out, "out", rows: (h.rows, "the rows of h"), cols: (weights.cols, to))
        try stitch.apply(
            direction, to: h, into: output.base, rowStride: output.rowStride, progress: SutureABI.progress(progress))
    }
}

/// The terms of the objective of a stitch on the rows that moments has seen, held-out ones for
/// example, in float64 and exact. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if the sizes differ, no token was seen, or alpha is
/// negative or not finite; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_objective(
    _ stitch: UnsafePointer<suture_stitch>?, _ moments: UnsafePointer<suture_moments>?, _ alpha: Double,
    _ out: UnsafeMutablePointer<suture_objective>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let moments = try SutureABI.moments(moments).moments
        let out = try required(out, "out")
        try structSize(UnsafeRawPointer(out), "out", of: suture_objective.self)
        try writeReport(suture_objective(try stitch.objective(on: moments, alpha: alpha)), to: out, "out")
    }
}

/// What is known about where the stitch comes from, as a JSON object: model_a, layer_a, model_b,
/// layer_b, tokens, alpha, objective, where known. *size is the number of bytes with the final NUL;
/// with json NULL, only *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below *size; nothing is written but *size.
@c
public func suture_stitch_metadata(
    _ stitch: UnsafePointer<suture_stitch>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        try writeText(try SutureABI.stitch(stitch).stitch.metadata.text(), to: json, capacity: capacity, size: size)
    }
}

/// Replaces the metadata with a JSON object. Not for use at the same time as another call on the
/// same stitch.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if json is no JSON object in UTF-8; then nothing has changed.
@c
public func suture_stitch_set_metadata(
    _ stitch: UnsafeMutablePointer<suture_stitch>?, _ json: UnsafePointer<CChar>?
) -> suture_status {
    boundary {
        let box = try SutureABI.stitch(stitch.map { UnsafePointer($0) })
        box.stitch.metadata = try metadata(json, "json")
    }
}

/// Writes the stitch to one .safetensors file: tensors P_up, b_up, P_down, b_down, and its metadata.
/// The file appears whole or not at all; an existing one is replaced.
///
/// Errors: SUTURE_ERROR_IO.
@c
public func suture_stitch_save(
    _ stitch: UnsafePointer<suture_stitch>?, _ path: UnsafePointer<CChar>?
) -> suture_status {
    boundary { try SutureABI.stitch(stitch).stitch.save(to: try string(path, "path")) }
}

/// Reads a stitch that suture_stitch_save() wrote, or any .safetensors file with those four tensors
/// in a floating-point type.
///
/// *out is the caller's, to be released with suture_stitch_destroy().
///
/// Errors: SUTURE_ERROR_IO if the file cannot be read, SUTURE_ERROR_FORMAT if it is not such a file,
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_load(
    _ path: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_stitch>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        out.pointee = makeHandle(StitchBox(try Stitch(contentsOf: try string(path, "path"))), as: suture_stitch.self)
    }
}

/// Releases a stitch. NULL is fine. Views of its weights are no longer valid.
@c
public func suture_stitch_destroy(_ stitch: UnsafeMutablePointer<suture_stitch>?) { destroyHandle(stitch) }

extension suture_objective {
    init(_ terms: StitchObjective) {
        self.init()
        struct_size = UInt64(MemoryLayout<suture_objective>.size)
        alpha = terms.alpha
        up = terms.up
        down = terms.down
        a_round_trip = terms.roundTripA
        b_round_trip = terms.roundTripB
        total = terms.total
        up_explained_variance = terms.upExplainedVariance
        down_explained_variance = terms.downExplainedVariance
        tokens = terms.tokens
        variance_a = terms.varianceA
        variance_b = terms.varianceB
        a_round_trip_explained_variance = terms.roundTripAExplainedVariance
        b_round_trip_explained_variance = terms.roundTripBExplainedVariance
        scaled_total = terms.scaledTotal
    }
}

extension suture_stitch_report {
    fileprivate init(_ report: StitchReport) {
        self.init()
        before = suture_objective(report.before)
        after = suture_objective(report.after)
        gradient_norm = report.gradientNorm
        ridge_a = report.ridgeA
        ridge_b = report.ridgeB
        iterations = Int32(clamping: report.iterations)
        converged = report.converged ? 1 : 0
        rank_a = Int64(report.rankA)
        rank_b = Int64(report.rankB)
        if report.isRankDeficient { warnings |= UInt32(SUTURE_WARNING_RANK_DEFICIENT.rawValue) }
        if !report.converged { warnings |= UInt32(SUTURE_WARNING_NOT_CONVERGED.rawValue) }
        if report.hasFewTokens { warnings |= UInt32(SUTURE_WARNING_FEW_TOKENS.rawValue) }
        if report.isCarriedByFewRows { warnings |= UInt32(SUTURE_WARNING_FEW_ROWS.rawValue) }
        if report.hasUnlikeScales { warnings |= UInt32(SUTURE_WARNING_UNLIKE_SCALES.rawValue) }
        seconds = report.seconds
    }
}
