// SPDX-License-Identifier: Apache-2.0
// Section: Steering vectors
import CSutureTypes
import Suture

final class SteeringBox: HandleBox {
    var steering: SteeringVector
    init(_ steering: SteeringVector) { self.steering = steering }
}

func steering(_ handle: UnsafePointer<suture_steering>?, _ name: String = "steering") throws -> SteeringBox {
    try object(handle, name, as: SteeringBox.self)
}

/// The steering vector between two sets of activations: v, the difference of their means divided by its
/// norm, and z_mean, the mean of <h, v> over the positive ones (arXiv 2506.06609, eq. 8). Keeps the mean
/// of the positive activations.
///
/// `positive` (texts to steer to) and `negative` are positive_count and negative_count matrices (N, d) each,
/// N >= 1, of any element type. Sums are in float64; the same bits for any number of threads.
///
/// *out is the caller's, to be released with suture_steering_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for widths that differ, a value that is not finite as float32
/// (named by matrix, row and column), or two sets with the same mean; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY. On an error nothing is written.
@c
public func suture_steering_fit(
    _ positive: UnsafePointer<suture_matrix>?, _ positive_count: Int64, _ negative: UnsafePointer<suture_matrix>?,
    _ negative_count: Int64, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_steering>?>?
) -> suture_status {
    boundary {
        let toward = try matrices(positive, positive_count, "positive")
        let width = toward.first?.cols ?? 0
        let away = try matrices(negative, negative_count, "negative", cols: (width, "the columns of positive"))
        let out = try required(out, "out")
        let found = try SteeringVector.fit(positive: toward, negative: away, progress: SutureABI.progress(progress))
        out.pointee = makeHandle(SteeringBox(found), as: suture_steering.self)
    }
}

/// A steering vector from its parts: vector (1, d), of any norm but zero, and normalised here; z_mean; mean
/// (1, d), the mean of the positive activations, or NULL. Any element types; copied, as float32.
///
/// *out is the caller's, to be released with suture_steering_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for shapes that do not fit, a value that is not finite, or a vector
/// of zeros; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_steering_create(
    _ vector: UnsafePointer<suture_matrix>?, _ z_mean: Double, _ mean: UnsafePointer<suture_matrix>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_steering>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let direction = try FloatMatrix(try ownedMatrix(vector, "vector", rows: (1, "1")))
        let center = try mean.map {
            try FloatMatrix(try ownedMatrix($0, "mean", rows: (1, "1"), cols: (direction.cols, "d")))
        }
        let made = try SteeringVector(vector: direction, zMean: z_mean, mean: center)
        out.pointee = makeHandle(SteeringBox(made), as: suture_steering.self)
    }
}

/// Width d, z_mean, and whether the mean of the positive activations is known (1) or not (0). Each
/// out-pointer may be NULL.
@c
public func suture_steering_info(
    _ steering: UnsafePointer<suture_steering>?, _ d: UnsafeMutablePointer<Int64>?,
    _ z_mean: UnsafeMutablePointer<Double>?, _ has_mean: UnsafeMutablePointer<Int32>?
) -> suture_status {
    boundary {
        let steering = try SutureABI.steering(steering).steering
        d?.pointee = Int64(steering.dIn)
        z_mean?.pointee = steering.zMean
        has_mean?.pointee = steering.mean == nil ? 0 : 1
    }
}

/// A view (1, d) of the unit vector, float32, in the object's own memory: read it only, and only while the
/// object lives.
@c
public func suture_steering_vector(
    _ steering: UnsafePointer<suture_steering>?, _ out: UnsafeMutablePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let steering = try SutureABI.steering(steering).steering
        try required(out, "out").pointee = view(of: steering.vector)
    }
}

/// A view (1, d) of the mean of the positive activations, likewise; one with data NULL and no columns where
/// it is not known.
@c
public func suture_steering_mean(
    _ steering: UnsafePointer<suture_steering>?, _ out: UnsafeMutablePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let steering = try SutureABI.steering(steering).steering
        let out = try required(out, "out")
        out.pointee =
            steering.mean.map(view(of:))
            ?? suture_matrix(data: nil, rows: 1, cols: 0, row_stride: 0, dtype: SUTURE_FLOAT32)
    }
}

private func view(of weight: FloatMatrix) -> suture_matrix {
    suture_matrix(
        data: UnsafeMutableRawPointer(mutating: weight.pointer), rows: Int64(weight.rows), cols: Int64(weight.cols),
        row_stride: Int64(weight.cols), dtype: SUTURE_FLOAT32)
}

/// Steers rows: h (N, d) of any element type to out (N, d), float32, of the caller's. N may be 0. strength is
/// the factor of z_mean, 1 for the paper's clamp (eq. 9); ablation has none. Where h is float32, out may be
/// h itself.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes, an unknown mode, a strength that is not finite or
/// takes z_mean beyond float32, or a value that is not finite; SUTURE_ERROR_NUMERICAL for a result beyond
/// float32; SUTURE_ERROR_CANCELLED; in the last three cases the output may be partly written.
@c
public func suture_steering_apply(
    _ steering: UnsafePointer<suture_steering>?, _ mode: suture_steering_mode, _ strength: Double,
    _ h: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let steering = try SutureABI.steering(steering).steering
        let chosen: SteeringMode
        switch mode {
        case SUTURE_STEERING_CLAMP: chosen = .clamp
        case SUTURE_STEERING_ADD: chosen = .add
        case SUTURE_STEERING_ABLATE: chosen = .ablate
        default:
            throw SutureError.invalidArgument(
                "mode is \(mode.rawValue), expected SUTURE_STEERING_CLAMP, _ADD or _ABLATE")
        }
        guard strength.isFinite else {
            throw SutureError.invalidArgument("strength is \(strength), expected a finite number")
        }
        let h = try matrix(h, "h", cols: (steering.dIn, "d"), minimumRows: 0)
        if h.rows == 0 {
            _ = try matrix(out, "out", rows: (0, "the rows of h"), cols: (steering.dIn, "d"), minimumRows: 0)
            return
        }
        let output = try outputMatrix(out, "out", rows: (h.rows, "the rows of h"), cols: (steering.dIn, "d"))
        try steering.apply(
            chosen, strength: strength, to: h, into: output.base, rowStride: output.rowStride,
            progress: SutureABI.progress(progress))
    }
}

/// What is known about where the vector comes from, as a JSON object. *size is the number of bytes with the
/// final NUL; with json NULL, only *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below *size; nothing is written but *size.
@c
public func suture_steering_metadata(
    _ steering: UnsafePointer<suture_steering>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let text = try SutureABI.steering(steering).steering.metadata.text()
        try writeText(text, to: json, capacity: capacity, size: size)
    }
}

/// Replaces the metadata with a JSON object. Not for use at the same time as another call on the same vector.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if json is no JSON object in UTF-8; then nothing has changed.
@c
public func suture_steering_set_metadata(
    _ steering: UnsafeMutablePointer<suture_steering>?, _ json: UnsafePointer<CChar>?
) -> suture_status {
    boundary {
        let box = try SutureABI.steering(steering.map { UnsafePointer($0) })
        box.steering.metadata = try metadata(json, "json")
    }
}

/// Writes one .safetensors file: tensors vector (d), z_mean (1) in float64, mean (d) where it is known, and
/// the metadata. The file appears whole or not at all; an existing one is replaced.
///
/// Errors: SUTURE_ERROR_IO.
@c
public func suture_steering_save(
    _ steering: UnsafePointer<suture_steering>?, _ path: UnsafePointer<CChar>?
) -> suture_status {
    boundary { try SutureABI.steering(steering).steering.save(to: try string(path, "path")) }
}

/// Reads a vector that suture_steering_save() wrote.
///
/// *out is the caller's, to be released with suture_steering_destroy().
///
/// Errors: SUTURE_ERROR_IO if the file cannot be read, SUTURE_ERROR_FORMAT if it is not such a file,
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_steering_load(
    _ path: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_steering>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let made = try SteeringVector(contentsOf: try string(path, "path"))
        out.pointee = makeHandle(SteeringBox(made), as: suture_steering.self)
    }
}

/// Releases a steering vector. NULL is fine. Views of it are no longer valid.
@c
public func suture_steering_destroy(_ steering: UnsafeMutablePointer<suture_steering>?) { destroyHandle(steering) }
