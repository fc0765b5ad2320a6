// SPDX-License-Identifier: Apache-2.0
// Section: Norms
import CSutureTypes
import Suture

/// Writes the Euclidean norm of each row of h (N, d), any element type, to norms (N). The same row has
/// the same norm here and wherever a bound on norms is looked at.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a value that is not finite in float32;
/// SUTURE_ERROR_CANCELLED.
@c
public func suture_row_norms(
    _ h: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?,
    _ norms: UnsafeMutablePointer<Double>?
) -> suture_status {
    boundary {
        let h = try matrix(h, "h")
        try RowNorms.norms(of: h, into: try required(norms, "norms"), progress: SutureABI.progress(progress))
    }
}

/// The numbers of the rows that suture_norm_bound() looks at among `rows` of them, ascending: all up to
/// 4096, else 4096 that are spread over all and depend on `rows` alone. For rows that are somewhere
/// else: take the norms of these, their median, and a multiple of it. *count is how many there are;
/// with indices NULL, only *count is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if rows is below 1 or capacity below *count; nothing is
/// written but *count.
@c
public func suture_norm_sample(
    _ rows: Int64, _ indices: UnsafeMutablePointer<Int64>?, _ capacity: Int64, _ count: UnsafeMutablePointer<Int64>?
) -> suture_status {
    boundary {
        guard rows >= 1 else { throw SutureError.invalidArgument("rows is \(rows), expected at least 1") }
        let count = try required(count, "count")
        count.pointee = min(rows, Int64(RowNorms.sampleLimit))
        guard let indices else { return }
        guard capacity >= count.pointee else {
            throw SutureError.invalidArgument("capacity is \(capacity), expected at least \(count.pointee)")
        }
        for (i, row) in RowNorms.sample(of: Int(rows)).enumerated() { indices[i] = Int64(row) }
    }
}

/// A bound on the norms of a stream's rows: multiple times the median norm of a fixed sample of the rows
/// of all shards (N_i, d), which follow one another; how they are cut does not matter. Rows of zeros are
/// left out of the sample; if all are, *bound is infinity, which bounds nothing. Compute it once for a
/// stream, and give it to all who read a part: suture_moments_set_norm_bounds().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT unless multiple is finite and above 0, for unequal widths, no
/// rows, or a value of the sample that is not finite in float32.
@c
public func suture_norm_bound(
    _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64, _ multiple: Double,
    _ bound: UnsafeMutablePointer<Double>?
) -> suture_status {
    boundary {
        let shards = try matrices(shards, shard_count)
        let bound = try required(bound, "bound")
        bound.pointee = try RowNorms.bound(of: shards, multiple: multiple)
    }
}

/// Sets bounds on the norms of the rows of A and B, infinity for none, before the first row: rows
/// beyond them do not count, and neither do the rows they are paired with. The bounds stay with the
/// moments, in their bytes too, and suture_moments_merge() refuses moments with others.
///
/// With `estimated` 1 the bounds are estimates from this part of the data, which the other parts need
/// not share: such moments are merged if the smaller of two bounds leaves out the same rows of both.
/// With 0 they hold for all parts.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a bound that is NaN, 0 or negative, an `estimated` other
/// than 0 or 1, or once rows were seen.
@c
public func suture_moments_set_norm_bounds(
    _ moments: UnsafeMutablePointer<suture_moments>?, _ norm_bound_a: Double, _ norm_bound_b: Double,
    _ estimated: Int32
) -> suture_status {
    boundary {
        let box = try SutureABI.moments(moments)
        guard estimated == 0 || estimated == 1 else {
            throw SutureError.invalidArgument("estimated is \(estimated), expected 0 or 1")
        }
        try box.change { try $0.setNormBounds(a: norm_bound_a, b: norm_bound_b, estimated: estimated == 1) }
    }
}

/// What moments know of the norms of their rows. Set out->struct_size first.
@c
public func suture_moments_norms(
    _ moments: UnsafePointer<suture_moments>?, _ out: UnsafeMutablePointer<suture_norms_report>?
) -> suture_status {
    boundary {
        let moments = try SutureABI.moments(moments).moments
        let out = try required(out, "out")
        try structSize(UnsafeRawPointer(out), "out", of: suture_norms_report.self)
        let (a, b) = moments.normReports
        var report = suture_norms_report()
        report.left_out = moments.leftOut
        report.a = suture_stream_norms(a)
        report.b = suture_stream_norms(b)
        report.carried_by_few = moments.isCarriedByFewRows ? 1 : 0
        report.bounds = Int32(moments.boundsOrigin.rawValue)
        try writeReport(report, to: out, "out")
    }
}

extension suture_stream_norms {
    fileprivate init(_ report: Moments.NormReport) {
        self.init()
        norm_bound = report.bound
        beyond = report.beyond
        share_beyond = report.shareBeyond
        median = report.median
        largest = report.largest
        massive = report.massive
        massive_share = report.massiveShare
    }
}
