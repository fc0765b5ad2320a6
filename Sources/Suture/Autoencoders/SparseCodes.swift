// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Activations of a SAE on some tokens: for each token the latents that are active and how much.
///
/// Slots of a token are ordered largest value first, equal values by the lower latent; unused slots
/// come last and have index -1 and value 0. The arrays stay where they are: C and Python look at
/// them directly. Immutable once made.
public final class SparseCodes: Sendable {
    /// Tokens.
    public let rows: Int
    /// Slots a token.
    public let width: Int
    /// Latents of the SAE they belong to.
    public let dSAE: Int
    let indexBuffer: Buffer<Int32>
    let valueBuffer: Buffer<Float>
    let countBuffer: Buffer<Int32>
    /// With a per-token normalisation: what the decoder needs to undo it, (scale, mean) a token.
    let tokenScales: [TokenScale]?

    /// (rows, width)
    public var indices: UnsafePointer<Int32> { UnsafePointer(indexBuffer.pointer) }
    /// (rows, width)
    public var values: UnsafePointer<Float> { UnsafePointer(valueBuffer.pointer) }
    /// Slots in use, (rows).
    public var counts: UnsafePointer<Int32> { UnsafePointer(countBuffer.pointer) }

    /// Copies `counts[row]` slots a row through `slots`, and fills up the rest.
    init(
        rows: Int, width: Int, dSAE: Int, tokenScales: [TokenScale]?,
        slots: (_ row: Int) throws -> (count: Int, indices: UnsafePointer<Int32>, values: UnsafePointer<Float>)
    ) throws {
        let (size, overflow) = rows.multipliedReportingOverflow(by: width)
        guard !overflow else {
            throw SutureError.outOfMemory("codes of \(rows) rows and \(width) slots do not fit in memory")
        }
        self.rows = rows
        self.width = width
        self.dSAE = dSAE
        self.tokenScales = tokenScales
        indexBuffer = try Buffer(count: size, for: "codes")
        valueBuffer = try Buffer(count: size, for: "codes")
        countBuffer = try Buffer(count: rows, for: "codes")
        for row in 0..<rows {
            let (count, indices, values) = try slots(row)
            let (rowIndices, rowValues) = (indexBuffer.pointer + row * width, valueBuffer.pointer + row * width)
            rowIndices.update(from: indices, count: count)
            rowValues.update(from: values, count: count)
            (rowIndices + count).update(repeating: -1, count: width - count)
            (rowValues + count).update(repeating: 0, count: width - count)
            countBuffer.pointer[row] = Int32(count)
        }
    }

    /// Codes made elsewhere, in any slot order; a negative index marks an empty slot, whose value
    /// does not matter. Values may have any sign: decoding is linear.
    ///
    /// - Parameter indices: (rows, width), row by row; `values` likewise.
    /// - Throws: `SutureError.invalidArgument` for an index beyond `dSAE`, one that stands twice in a
    ///   row, or a value that is not finite.
    public convenience init<Indices: RandomAccessCollection<Int32>, Values: RandomAccessCollection<Float>>(
        dSAE: Int, rows: Int, width: Int, indices: Indices, values: Values
    ) throws where Indices.Index == Int, Values.Index == Int {
        for (name, size, least) in [("d_sae", dSAE, 1), ("rows", rows, 0), ("width", width, 0)] where size < least {
            throw SutureError.invalidArgument("\(name) is \(size), expected at least \(least)")
        }
        let (size, overflow) = rows.multipliedReportingOverflow(by: width)
        guard !overflow, indices.startIndex == 0, indices.endIndex == size,
            values.startIndex == 0, values.endIndex == size
        else {
            throw SutureError.invalidArgument(
                "indices has \(indices.count) and values has \(values.count) elements, "
                    + "expected rows * width = \(rows) * \(width)")
        }
        let slotIndices = try Buffer<Int32>(count: width, for: "codes")
        let slotValues = try Buffer<Float>(count: width, for: "codes")
        var used: [(latent: Int32, value: Float)] = []
        used.reserveCapacity(width)
        try self.init(rows: rows, width: width, dSAE: dSAE, tokenScales: nil) { row in
            used.removeAll(keepingCapacity: true)
            for slot in row * width..<(row + 1) * width where indices[slot] >= 0 {
                guard indices[slot] < dSAE else {
                    throw SutureError.invalidArgument(
                        "indices[\(row), \(slot % width)] is \(indices[slot]), expected less than d_sae = \(dSAE)")
                }
                guard values[slot].isFinite else {
                    throw SutureError.invalidArgument(
                        "values[\(row), \(slot % width)] is \(values[slot]), expected finite numbers")
                }
                used.append((indices[slot], values[slot]))
            }
            // Pooled codes have hundreds of latents a row: nothing here may take their square.
            used.sort { $0.latent < $1.latent }
            if let (_, twice) = zip(used, used.dropFirst()).first(where: { $0.latent == $1.latent }) {
                let slot = (0..<width).last { indices[row * width + $0] == twice.latent } ?? 0
                throw SutureError.invalidArgument(
                    "indices[\(row), \(slot)] is \(twice.latent), expected each latent once in row \(row)")
            }
            used.sort { $0.value > $1.value || ($0.value == $1.value && $0.latent < $1.latent) }
            for (slot, (latent, value)) in used.enumerated() {
                slotIndices.pointer[slot] = latent
                slotValues.pointer[slot] = value
            }
            return (used.count, UnsafePointer(slotIndices.pointer), UnsafePointer(slotValues.pointer))
        }
    }

    /// As a matrix (rows, dSAE), for small ones and tests.
    public var dense: Matrix<Float> {
        var result = Matrix<Float>(zeros: rows, dSAE)
        for row in 0..<rows {
            for slot in 0..<Int(counts[row]) {
                result[row, Int(indices[row * width + slot])] = values[row * width + slot]
            }
        }
        return result
    }
}

/// What a per-token normalisation did to one token: `x = normalised * scale + mean`.
struct TokenScale: Sendable {
    var scale: Float = 1
    var mean: Float = 0
}
