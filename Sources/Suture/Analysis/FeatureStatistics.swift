// SPDX-License-Identifier: Apache-2.0
import SutureNumerics

/// How often and how strongly each feature of a stream of codes fires, and on which tokens most.
/// Memory grows with the features and the examples kept, not with the tokens. The bits do not depend
/// on how tokens are cut into calls.
public struct FeatureStatistics: Sendable {
    public let dSAE: Int
    /// Examples kept of each feature.
    public let top: Int
    /// Tokens seen.
    public private(set) var tokens = 0
    private var sums: Buffer<FeatureSums>
    /// (d_sae, top), largest value first.
    private var exampleRows: Buffer<Int64>
    private var exampleValues: Buffer<Float>

    /// - Throws: `invalidArgument`, `outOfMemory`.
    public init(dSAE: Int, top: Int) throws {
        guard dSAE >= 1, dSAE <= Int(Int32.max) else {
            throw SutureError.invalidArgument("d_sae is \(dSAE), expected 1 to \(Int32.max)")
        }
        guard top >= 0, top <= Self.topLimit else {
            throw SutureError.invalidArgument("top is \(top), expected 0 to \(Self.topLimit)")
        }
        self.dSAE = dSAE
        self.top = top
        sums = try Buffer(zeros: dSAE, for: "feature statistics")
        exampleRows = try Buffer(count: dSAE * top, for: "feature statistics")
        exampleValues = try Buffer(zeros: dSAE * top, for: "feature statistics")
        exampleRows.pointer.update(repeating: -1, count: dSAE * top)
    }

    public static let topLimit = 10_000

    /// Adds tokens; their numbers go on from the tokens seen before.
    ///
    /// - Throws: `invalidArgument` for codes of another SAE; `outOfMemory`; `cancelled`. Then nothing has
    ///   changed.
    public mutating func update(_ codes: SparseCodes, progress: Progress = .none) throws {
        guard codes.dSAE == dSAE else {
            throw SutureError.invalidArgument("codes has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        let sums = try sums.copy(for: "feature statistics")
        let rows = try exampleRows.copy(for: "feature statistics")
        let values = try exampleValues.copy(for: "feature statistics")
        for row in 0..<codes.rows {
            for slot in row * codes.width..<row * codes.width + Int(codes.counts[row]) {
                let (latent, value) = (Int(codes.indices[slot]), codes.values[slot])
                let sum = sums.pointer + latent
                sum.pointee.largest = sum.pointee.count == 0 ? value : max(sum.pointee.largest, value)
                sum.pointee.total += Double(value)
                let kept = min(Int(sum.pointee.count), top)
                sum.pointee.count += 1
                let place = latent * top
                if kept == top, top == 0 || value <= values.pointer[place + top - 1] { continue }
                // Rows come in order: equal values stay behind those that were there.
                var at = min(kept, top - 1)
                while at > 0, values.pointer[place + at - 1] < value {
                    values.pointer[place + at] = values.pointer[place + at - 1]
                    rows.pointer[place + at] = rows.pointer[place + at - 1]
                    at -= 1
                }
                values.pointer[place + at] = value
                rows.pointer[place + at] = Int64(tokens + row)
            }
            if row % 4096 == 0 { try progress.report(row, of: codes.rows) }
        }
        self.sums = sums
        exampleRows = rows
        exampleValues = values
        tokens += codes.rows
    }

    /// Share of the tokens each feature is active on.
    ///
    /// - Throws: `invalidArgument` before the first token.
    public func frequencies() throws -> [Double] {
        guard tokens > 0 else {
            throw SutureError.invalidArgument("statistics has seen no tokens, expected at least 1")
        }
        return (0..<dSAE).map { Double(sums.pointer[$0].count) / Double(tokens) }
    }

    /// Mean activation over the tokens each feature is active on; NaN where there are none.
    public func means() -> [Double] {
        (0..<dSAE).map { sums.pointer[$0].count == 0 ? .nan : sums.pointer[$0].total / Double(sums.pointer[$0].count) }
    }

    /// Largest activation, 0 where a feature never fired.
    public func maxima() -> [Float] { (0..<dSAE).map { sums.pointer[$0].largest } }

    /// The tokens on which each feature is most active, (d_sae, top), strongest first, ties by the
    /// earlier; -1 and 0 where it fired on fewer.
    public func readExamples(rows: UnsafeMutablePointer<Int64>?, values: UnsafeMutablePointer<Float>?) {
        rows?.update(from: exampleRows.pointer, count: dSAE * top)
        values?.update(from: exampleValues.pointer, count: dSAE * top)
    }
}

struct FeatureSums: BitwiseCopyable {
    var count: UInt64
    var total: Double
    var largest: Float
}
