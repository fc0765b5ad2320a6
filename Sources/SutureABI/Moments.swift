// SPDX-License-Identifier: Apache-2.0
// Section: Moments
import CSutureTypes
import Suture

final class MomentsBox: HandleBox {
    private let state: Changing<Moments>
    var moments: Moments { state.value }

    init(_ moments: Moments) { state = Changing(moments, name: "moments") }

    func change(_ body: (inout Moments) throws -> Void) throws { try state.change(body) }
}

func moments(_ handle: UnsafePointer<suture_moments>?, _ name: String = "moments") throws -> MomentsBox {
    try object(handle, name, as: MomentsBox.self)
}

func moments(_ handle: UnsafeMutablePointer<suture_moments>?, _ name: String = "moments") throws -> MomentsBox {
    try object(handle.map { UnsafePointer($0) }, name, as: MomentsBox.self)
}

/// Begins moments of paired activations: rows of d_a coordinates of model A with rows of d_b
/// coordinates of model B. Moments take 8 (d_a + d_b)^2 bytes, however many tokens they see.
///
/// *out is the caller's, to be released with suture_moments_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if a size is below 1, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_moments_create(
    _ d_a: Int64, _ d_b: Int64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_moments>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        out.pointee = makeHandle(MomentsBox(try Moments(dA: Int(d_a), dB: Int(d_b))), as: suture_moments.self)
    }
}

/// Adds paired rows: row i of h_a (N, d_a) and of h_b (N, d_b) belong to the same token. Any element
/// types; sums are in float64. The same calls give the same bits for any number of threads.
///
/// On any error, cancelling included, the moments are as they were before the call. Until it returns,
/// other calls see them as they were before; another change of them meanwhile, as from the progress
/// callback, gets SUTURE_ERROR_INVALID_ARGUMENT.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes, no rows, or a value that is not finite
/// (the message names the first row and its side); SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_moments_update(
    _ moments: UnsafeMutablePointer<suture_moments>?, _ h_a: UnsafePointer<suture_matrix>?,
    _ h_b: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.moments(moments)
        let (dA, dB) = (box.moments.dA, box.moments.dB)
        let a = try matrix(h_a, "h_a", cols: (dA, "d_a"))
        let b = try matrix(h_b, "h_b", rows: (a.rows, "the rows of h_a"), cols: (dB, "d_b"))
        try box.change { try $0.update(a: a, b: b, progress: SutureABI.progress(progress)) }
    }
}

/// Adds the rows that belong together: row rows_a[i] of h_a (N, d_a) with row rows_b[i] of h_b (M, d_b),
/// for i from 0 to count - 1, as from suture_align(). The rows are read where they are: neither input is
/// copied. Any order is fine, and a row may be in several pairs. Errors leave the moments as they were, as
/// with suture_moments_update().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other widths, count below 1, a row that does not exist, or a
/// value that is not finite in a row of a pair; SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_moments_update_pairs(
    _ moments: UnsafeMutablePointer<suture_moments>?, _ h_a: UnsafePointer<suture_matrix>?,
    _ h_b: UnsafePointer<suture_matrix>?, _ rows_a: UnsafePointer<Int64>?, _ rows_b: UnsafePointer<Int64>?,
    _ count: Int64, _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.moments(moments)
        let (dA, dB) = (box.moments.dA, box.moments.dB)
        let a = try matrix(h_a, "h_a", cols: (dA, "d_a"))
        let b = try matrix(h_b, "h_b", cols: (dB, "d_b"))
        guard count >= 1, count <= Int64.max / 8 else {
            throw SutureError.invalidArgument("count is \(count), expected at least 1 pair of rows")
        }
        let rowsA = try required(rows_a, "rows_a")
        let rowsB = try required(rows_b, "rows_b")
        try box.change {
            try $0.update(
                a: a, b: b, rowsA: rowsA, rowsB: rowsB, count: Int(count), progress: SutureABI.progress(progress))
        }
    }
}

/// Adds the tokens that other has seen, as if one pass had seen both, up to rounding. other stays
/// as it is, and may be the same object.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if the sizes differ, SUTURE_ERROR_OUT_OF_MEMORY; then
/// nothing has changed.
@c
public func suture_moments_merge(
    _ moments: UnsafeMutablePointer<suture_moments>?, _ other: UnsafePointer<suture_moments>?
) -> suture_status {
    boundary {
        let box = try SutureABI.moments(moments)
        let other = try SutureABI.moments(other, "other")
        let added = other.moments
        try box.change { try $0.merge(added) }
    }
}

/// The sizes, and how many tokens were seen. Each out-pointer may be NULL.
@c
public func suture_moments_info(
    _ moments: UnsafePointer<suture_moments>?, _ d_a: UnsafeMutablePointer<Int64>?,
    _ d_b: UnsafeMutablePointer<Int64>?, _ tokens: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        d_a?.pointee = Int64(moments.dA)
        d_b?.pointee = Int64(moments.dB)
        tokens?.pointee = moments.tokens
    }
}

/// Writes means (d_a) and (d_b) and covariances (d_a, d_a), (d_a, d_b) and (d_b, d_b), divided by
/// the number of tokens, row by row. Each out-pointer may be NULL.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if no token was seen.
@c
public func suture_moments_read(
    _ moments: UnsafePointer<suture_moments>?, _ mean_a: UnsafeMutablePointer<Double>?,
    _ mean_b: UnsafeMutablePointer<Double>?, _ cov_aa: UnsafeMutablePointer<Double>?,
    _ cov_ab: UnsafeMutablePointer<Double>?, _ cov_bb: UnsafeMutablePointer<Double>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        guard moments.tokens > 0 else {
            throw SutureError.invalidArgument("moments has seen no tokens, expected at least 1")
        }
        if let mean_a { moments.readMeanA(into: mean_a) }
        if let mean_b { moments.readMeanB(into: mean_b) }
        if let cov_aa { try moments.readCovariance(.aa, into: cov_aa) }
        if let cov_ab { try moments.readCovariance(.ab, into: cov_ab) }
        if let cov_bb { try moments.readCovariance(.bb, into: cov_bb) }
    }
}

/// Writes the moments as bytes (a version, the sizes, the sums, a checksum), for a file or another
/// process, and their number to *size. With bytes NULL, only *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below the number of bytes; nothing is
/// written but *size.
@c
public func suture_moments_serialize(
    _ moments: UnsafePointer<suture_moments>?, _ bytes: UnsafeMutablePointer<UInt8>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        let size = try required(size, "size")
        size.pointee = UInt64(moments.serializedSize)
        guard let bytes else { return }
        guard capacity >= size.pointee else {
            throw SutureError.invalidArgument("capacity is \(capacity), expected at least \(size.pointee)")
        }
        try moments.serialize(into: UnsafeMutableRawBufferPointer(start: bytes, count: moments.serializedSize))
    }
}

/// Moments from the bytes that suture_moments_serialize() wrote.
///
/// *out is the caller's, to be released with suture_moments_destroy().
///
/// Errors: SUTURE_ERROR_FORMAT for bytes that are cut short, damaged, or of another format or
/// version; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_moments_deserialize(
    _ bytes: UnsafePointer<UInt8>?, _ size: UInt64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_moments>?>?
) -> suture_status {
    boundary {
        let bytes = try required(bytes, "bytes")
        let out = try required(out, "out")
        guard let count = Int(exactly: size) else {
            throw SutureError.invalidArgument("size is \(size), more than memory can hold")
        }
        let moments = try Moments(serialized: UnsafeRawBufferPointer(start: bytes, count: count))
        out.pointee = makeHandle(MomentsBox(moments), as: suture_moments.self)
    }
}

/// How alike the two streams are: singular vector canonical correlation analysis (Raghu et al. 2017).
/// On each side the fewest singular directions that hold variance_kept of the variance (0 <
/// variance_kept <= 1; 0.99 is usual), canonical correlations between them, and their mean over the
/// smaller number of kept directions. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for variance_kept out of range, fewer than two tokens, or a
/// side that is the same in all tokens; SUTURE_ERROR_OUT_OF_MEMORY; SUTURE_ERROR_NUMERICAL.
@c
public func suture_svcca(
    _ moments: UnsafePointer<suture_moments>?, _ variance_kept: Double,
    _ out: UnsafeMutablePointer<suture_svcca_report>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        let out = try required(out, "out")
        try structSize(UnsafeRawPointer(out), "out", of: suture_svcca_report.self)
        try writeReport(suture_svcca_report(try moments.svcca(varianceKept: variance_kept)), to: out, "out")
    }
}

/// The singular directions that suture_svcca() keeps, of each side, as stitches: SUTURE_UP maps a stream
/// to its white principal coordinates (mean 0, variance 1, the largest direction first), SUTURE_DOWN
/// back. suture_svcca_white() of such rows is the SVCCA of the streams, so that of many layers each is
/// whitened once. Either out-pointer may be NULL.
///
/// *out_a and *out_b are the caller's, to be released with suture_stitch_destroy().
///
/// Errors: as suture_svcca(); SUTURE_ERROR_NUMERICAL for coordinates beyond float32.
@c
public func suture_moments_whiten(
    _ moments: UnsafePointer<suture_moments>?, _ variance_kept: Double,
    _ out_a: UnsafeMutablePointer<UnsafeMutablePointer<suture_stitch>?>?,
    _ out_b: UnsafeMutablePointer<UnsafeMutablePointer<suture_stitch>?>?
) -> suture_status {
    boundary {
        let found = try SutureABI.moments(moments).moments.whitening(varianceKept: variance_kept)
        if let out_a { out_a.pointee = makeHandle(StitchBox(found.a), as: suture_stitch.self) }
        if let out_b { out_b.pointee = makeHandle(StitchBox(found.b), as: suture_stitch.self) }
    }
}

/// suture_svcca() of rows that suture_moments_whiten() has made white, in part or whole: white_a (N,
/// kept_a) and white_b (N, kept_b), row i of both of the same token. Set out->struct_size first.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for unequal numbers of rows or a value that is not finite;
/// SUTURE_ERROR_OUT_OF_MEMORY; SUTURE_ERROR_NUMERICAL.
@c
public func suture_svcca_white(
    _ white_a: UnsafePointer<suture_matrix>?, _ white_b: UnsafePointer<suture_matrix>?,
    _ out: UnsafeMutablePointer<suture_svcca_report>?
) -> suture_status {
    boundary {
        let a = try matrix(white_a, "white_a")
        let b = try matrix(white_b, "white_b", rows: (a.rows, "the rows of white_a"))
        let out = try required(out, "out")
        try structSize(UnsafeRawPointer(out), "out", of: suture_svcca_report.self)
        try writeReport(suture_svcca_report(try SVCCA(whiteA: a, whiteB: b)), to: out, "out")
    }
}

/// Releases moments. NULL is fine.
@c
public func suture_moments_destroy(_ moments: UnsafeMutablePointer<suture_moments>?) { destroyHandle(moments) }

extension suture_svcca_report {
    fileprivate init(_ found: SVCCA) {
        self.init()
        mean_correlation = found.meanCorrelation
        kept_a = Int64(found.keptA)
        kept_b = Int64(found.keptB)
    }
}
