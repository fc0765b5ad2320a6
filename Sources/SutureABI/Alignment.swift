// SPDX-License-Identifier: Apache-2.0
// Section: Alignment of two tokenizers
import CSutureTypes
import Suture

/// The tokens at which two tokenizers have read the same text: for every place of the text at which a
/// token of each side ends, the index of the last token of each side that ends there. They go to rows_a
/// and rows_b, which hold the smaller of count_a and count_b numbers each, ascending, and their number to
/// *count; with rows_a and rows_b both NULL, only *count is written. No shared end: *count is 0.
///
/// ends_a (count_a) and ends_b (count_b) are where the tokens of one text end, in bytes of the text itself,
/// in order and without special tokens. Equal neighbours are legal: tokens within one character, or tokens
/// without text. Equal lists without equal neighbours give the identity. Takes linear time.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if a list decreases (the message says where), or an end or a
/// count is negative; then nothing is written.
@c
public func suture_align(
    _ ends_a: UnsafePointer<Int64>?, _ count_a: Int64, _ ends_b: UnsafePointer<Int64>?, _ count_b: Int64,
    _ rows_a: UnsafeMutablePointer<Int64>?, _ rows_b: UnsafeMutablePointer<Int64>?,
    _ count: UnsafeMutablePointer<Int64>?
) -> suture_status {
    boundary {
        func ends(
            _ pointer: UnsafePointer<Int64>?, _ count: Int64, _ name: String
        ) throws -> UnsafeBufferPointer<Int64> {
            guard count >= 0, count <= Int64.max / 8 else {
                throw SutureError.invalidArgument("count_\(name.suffix(1)) is \(count), expected at least 0")
            }
            return UnsafeBufferPointer(start: count == 0 ? nil : try required(pointer, name), count: Int(count))
        }
        let shared = try SharedEnds(try ends(ends_a, count_a, "ends_a"), try ends(ends_b, count_b, "ends_b"))
        let count = try required(count, "count")
        if (rows_a == nil) != (rows_b == nil) {
            let (missing, given) = rows_a == nil ? ("rows_a", "rows_b") : ("rows_b", "rows_a")
            throw SutureError.invalidArgument("\(missing) is NULL beside \(given), expected both or neither")
        }
        var found = 0
        shared.forEach { i, j in
            rows_a?[found] = Int64(i)
            rows_b?[found] = Int64(j)
            found += 1
        }
        count.pointee = Int64(found)
    }
}
