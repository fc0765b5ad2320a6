// SPDX-License-Identifier: Apache-2.0
import Suture

/// Writes a text and its final NUL to a caller's memory, and the number of bytes to `size`; with a
/// NULL `target` only that number.
func writeText(
    _ text: String, to target: UnsafeMutablePointer<CChar>?, capacity: UInt64, size: UnsafeMutablePointer<UInt64>?
) throws {
    let size = try required(size, "size")
    let bytes = text.utf8CString
    size.pointee = UInt64(bytes.count)
    guard let target else { return }
    guard capacity >= size.pointee else {
        throw SutureError.invalidArgument("capacity is \(capacity), expected at least \(size.pointee)")
    }
    for (i, byte) in bytes.enumerated() { target[i] = byte }
}

/// A caller's JSON object.
func metadata(_ json: UnsafePointer<CChar>?, _ name: String) throws -> Metadata {
    do {
        return try Metadata(parsing: try string(json, name), name: name)
    } catch SutureError.format(let message) {
        throw SutureError.invalidArgument(message)
    }
}
