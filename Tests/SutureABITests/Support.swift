// SPDX-License-Identifier: Apache-2.0
// The C interface as Swift sees it through Include/suture.h: nothing here knows the Swift core.
import CSuture
import Foundation
import Testing

/// Numbers that are the same on every run.
struct Noise {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> Float {
        var sum = 0.0
        for _ in 0..<4 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            sum += Double(state >> 11) * 0x1p-53 - 0.5
        }
        return Float(sum * 3.0.squareRoot())
    }

    mutating func rows(_ count: Int) -> [Float] { (0..<count).map { _ in next() } }
}

/// What a call that did not return SUTURE_OK said.
struct CallFailed: Error, CustomStringConvertible {
    let status: suture_status
    let message: String
    var description: String { "status \(status.rawValue): \(message)" }
}

func check(_ status: suture_status) throws {
    guard status == SUTURE_OK else {
        throw CallFailed(status: status, message: String(cString: suture_last_error()))
    }
}

/// The handle that a create function makes.
func made<Handle>(
    _ call: (UnsafeMutablePointer<UnsafeMutablePointer<Handle>?>) -> suture_status
) throws -> UnsafeMutablePointer<Handle> {
    var handle: UnsafeMutablePointer<Handle>?
    try check(call(&handle))
    return try #require(handle)
}

/// Float32 rows, for the time of the call.
func withMatrix<Result>(
    _ values: [Float], cols: Int, _ body: (UnsafePointer<suture_matrix>) throws -> Result
) rethrows -> Result {
    try values.withUnsafeBufferPointer { buffer in
        var matrix = suture_matrix(
            data: UnsafeMutableRawPointer(mutating: UnsafeRawPointer(buffer.baseAddress)),
            rows: Int64(values.count / cols), cols: Int64(cols), row_stride: 0, dtype: SUTURE_FLOAT32)
        return try body(&matrix)
    }
}

/// Float32 rows that a call fills.
func filled(
    rows: Int, cols: Int, _ call: (UnsafePointer<suture_matrix>) -> suture_status
) throws -> [Float] {
    var values = [Float](repeating: .nan, count: rows * cols)
    try values.withUnsafeMutableBufferPointer { buffer in
        var matrix = suture_matrix(
            data: UnsafeMutableRawPointer(buffer.baseAddress), rows: Int64(rows), cols: Int64(cols), row_stride: 0,
            dtype: SUTURE_FLOAT32)
        try check(call(&matrix))
    }
    return values
}

/// The elements of a view into an object, such as a weight.
func elements(_ view: suture_matrix) throws -> [Float] {
    #expect(view.dtype == SUTURE_FLOAT32)
    let data = try #require(view.data).assumingMemoryBound(to: Float.self)
    let stride = view.row_stride == 0 ? view.cols : view.row_stride
    return (0..<view.rows).flatMap { row in (0..<view.cols).map { data[Int(row * stride + $0)] } }
}

/// A text that is asked for twice: its size, then itself.
func text(
    _ call: (UnsafeMutablePointer<CChar>?, UInt64, UnsafeMutablePointer<UInt64>) -> suture_status
) throws -> String {
    var size: UInt64 = 0
    try check(call(nil, 0, &size))
    var bytes = [CChar](repeating: 0, count: Int(size))
    try check(call(&bytes, size, &size))
    return String(decoding: bytes.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A folder that is there for the time of `body`.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("suture \(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
}
