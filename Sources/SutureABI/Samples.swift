// SPDX-License-Identifier: Apache-2.0
import CSutureTypes
import Suture

/// The samples of a caller, whichever of the three forms they have.
///
/// - Parameter cols: as for `matrix`.
func samples(_ pointer: UnsafePointer<suture_samples>?, cols: (Int, String)? = nil) throws -> Samples {
    let value = try config(pointer, "samples", defaults: suture_samples())
    let found: Samples
    switch (value.dense, value.codes, value.csr) {
    case (let dense?, nil, nil): return .dense(try matrix(dense, "x", cols: cols))
    case (nil, let codes?, nil): found = .sparse(SparseRows(try SutureABI.codes(codes)))
    case (nil, nil, let csr?): found = .sparse(try sparseRows(csr.pointee))
    default: throw SutureError.invalidArgument("samples has not just one of dense, codes and csr, expected one")
    }
    if let (expected, what) = cols, found.cols != expected {
        throw SutureError.invalidArgument("x has \(found.cols) columns, expected \(what) = \(expected)")
    }
    return found
}

private func sparseRows(_ csr: suture_csr) throws -> SparseRows {
    guard csr.rows >= 1, csr.rows < Int64(sizeLimit) else {
        throw SutureError.invalidArgument("x.rows is \(csr.rows), expected 1 to \(sizeLimit - 1)")
    }
    guard csr.cols >= 1, csr.cols <= Int64(sizeLimit) else {
        throw SutureError.invalidArgument("x.cols is \(csr.cols), expected 1 to \(sizeLimit)")
    }
    guard csr.dtype == SUTURE_FLOAT32 || csr.dtype == SUTURE_FLOAT64 else {
        throw SutureError.invalidArgument(
            "x.dtype is \(csr.dtype.rawValue), expected SUTURE_FLOAT32 or SUTURE_FLOAT64")
    }
    let starts = try required(csr.starts, "x.starts")
    // Without numbers there is nothing to point to.
    let isEmpty = starts[Int(csr.rows)] == 0
    let nothing = UnsafeRawPointer(starts)
    let indices = isEmpty ? nothing.assumingMemoryBound(to: Int32.self) : try required(csr.indices, "x.indices")
    guard let values = isEmpty ? nothing : csr.values else {
        throw SutureError.invalidArgument("x.values is NULL, expected a pointer")
    }
    do {
        return try SparseRows(
            rows: Int(csr.rows), cols: Int(csr.cols), starts: starts, indices: indices,
            values: csr.dtype == SUTURE_FLOAT32
                ? .float32(values.assumingMemoryBound(to: Float.self))
                : .float64(values.assumingMemoryBound(to: Double.self)))
    } catch SutureError.invalidArgument(let message) {
        throw SutureError.invalidArgument("x.\(message)")
    }
}
