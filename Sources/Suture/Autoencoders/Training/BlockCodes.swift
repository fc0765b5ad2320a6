// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Sparse codes of a block of tokens, one token after the other, in memory that grows: their active
/// latents, activations, and the gradients of the loss by each activation and, where thresholds are
/// trained, by what each does to its latent's threshold.
///
/// `@unchecked Sendable`: worked on by one thread at a time.
final class BlockCodes: @unchecked Sendable {
    private let starts: Buffer<Int>
    private(set) var tokens = 0
    private var indices: Buffer<Int32>
    private var values: Buffer<Float>
    private var slopes: Buffer<Float>
    private var thresholdSlopes: Buffer<Float>?

    /// - Parameter slots: active latents there is room for to begin with.
    init(tokens: Int, slots: Int, thresholds: Bool = false) throws {
        starts = try Buffer(zeros: tokens + 1)
        indices = try Buffer(count: slots, for: "sparse codes")
        values = try Buffer(count: slots, for: "sparse codes")
        slopes = try Buffer(count: slots, for: "sparse codes")
        thresholdSlopes = thresholds ? try Buffer(count: slots, for: "sparse codes") : nil
    }

    /// Active latents of all tokens.
    var count: Int { starts.pointer[tokens] }

    func clear() { tokens = 0 }

    /// Adds a token.
    func append(_ newIndices: UnsafePointer<Int32>, _ newValues: UnsafePointer<Float>, count added: Int) throws {
        let used = count
        if used + added > indices.count {
            let room = max(used + added, indices.count + indices.count / 2)
            indices = try indices.resized(to: room, keeping: used)
            values = try values.resized(to: room, keeping: used)
            slopes = try slopes.resized(to: room, keeping: used)
            thresholdSlopes = try thresholdSlopes?.resized(to: room, keeping: used)
        }
        (indices.pointer + used).update(from: newIndices, count: added)
        (values.pointer + used).update(from: newValues, count: added)
        tokens += 1
        starts.pointer[tokens] = used + added
    }

    /// Divides the activations of a token by its latents' elements of `divisors`.
    func divide(_ token: Int, by divisors: UnsafePointer<Float>) {
        let entries = entries(token)
        for slot in 0..<entries.count { entries.values[slot] /= divisors[Int(entries.indices[slot])] }
    }

    /// Activations of all tokens.
    var allValues: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: values.pointer, count: count) }

    /// Drops all but activations above `bar`, and of those that are equal to it the first `ties`, which
    /// become fewer by as many.
    func keep(above bar: Float, ties: inout Int) {
        var (kept, start) = (0, 0)
        for token in 0..<tokens {
            let end = starts.pointer[token + 1]
            for slot in start..<end {
                let value = values.pointer[slot]
                let isTie = value == bar && ties > 0
                if isTie { ties -= 1 }
                guard value > bar || isTie else { continue }
                indices.pointer[kept] = indices.pointer[slot]
                values.pointer[kept] = value
                kept += 1
            }
            starts.pointer[token + 1] = kept
            start = end
        }
    }

    /// The active latents of a token. Pointers are good until the next `append`.
    func entries(_ token: Int) -> CodeEntries {
        let start = starts.pointer[token]
        return CodeEntries(
            count: starts.pointer[token + 1] - start, indices: indices.pointer + start, values: values.pointer + start,
            slopes: slopes.pointer + start, thresholdSlopes: thresholdSlopes.map { $0.pointer + start })
    }
}

/// The active latents of one token.
struct CodeEntries {
    let count: Int
    let indices: UnsafeMutablePointer<Int32>
    /// Activations.
    let values: UnsafeMutablePointer<Float>
    /// Gradient of the loss by each activation.
    let slopes: UnsafeMutablePointer<Float>
    /// What each pre-activation adds to the gradient by its latent's threshold, where those are trained.
    let thresholdSlopes: UnsafeMutablePointer<Float>?
}

extension Buffer {
    /// A larger copy.
    fileprivate func resized(to room: Int, keeping used: Int) throws -> Buffer {
        let larger = try Buffer(count: room, for: "sparse codes")
        larger.pointer.update(from: pointer, count: used)
        return larger
    }
}
