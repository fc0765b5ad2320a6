// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

extension Trainer {
    /// Steps of `batchSize` tokens until at least `count` are trained on, drawn in random order from
    /// all rows of all `shards` (each (N, d_in), N >= 1, of any element type), which are not copied.
    ///
    /// Every row is seen once an epoch, in an order that depends on the seed, the epoch, d_in and the
    /// number of rows (`TokenOrder`). A batch that an epoch has too few rows left for is completed
    /// from the next one. A later call goes on where this one stopped; if it brings another number of
    /// rows, it begins a new epoch on them.
    ///
    /// - Returns: means over the steps of this call, and of earlier calls that ended in an error after
    ///   them; `dead` and `learningRate` as they are at the end.
    /// - Throws: as `step`; steps before the failing one stand.
    public func run(
        _ shards: [MatrixView], like other: OtherModel? = nil, tokens count: Int, progress: Progress = .none
    ) throws -> TrainingMetrics {
        try Trainer.run([self], shards, like: other, tokens: count, progress: progress).first ?? TrainingMetrics()
    }

    /// The same for several trainers on one stream: each batch is read once, and all take a step on it.
    /// They end with the bits that each would have by itself.
    ///
    /// - Parameters:
    ///   - other: what the trainers whose options have a pull are pulled towards.
    ///   - taking: false leaves the steps of this call to the means of the next one.
    /// - Throws: `SutureError.invalidArgument` also where the trainers differ in d_in, batch size, seed,
    ///   or where they are in the rows. A cancel waits until all have taken the step; after another
    ///   error, the trainers before the failing one have taken it.
    public static func run(
        _ trainers: [Trainer], _ shards: [MatrixView], like other: OtherModel? = nil, tokens count: Int,
        taking: Bool = true, progress: Progress = .none
    ) throws -> [TrainingMetrics] {
        guard let first = trainers.first else {
            throw SutureError.invalidArgument("there are 0 trainers, expected at least 1")
        }
        guard Set(trainers.map(ObjectIdentifier.init)).count == trainers.count else {
            throw SutureError.invalidArgument("trainers has the same trainer twice, expected different ones")
        }
        return try exclusively(trainers[...]) {
            let rows = try TokenRows(shards, dIn: first.dIn) { "shards[\($0)]" }
            guard !shards.isEmpty else { throw SutureError.invalidArgument("there are 0 shards, expected at least 1") }
            guard count >= 1 else { throw SutureError.invalidArgument("tokens is \(count), expected at least 1") }
            let batchSize = first.options.batchSize
            let stepCount = (count - 1) / batchSize + 1
            let (total, overflow) = stepCount.multipliedReportingOverflow(by: batchSize)
            guard !overflow else { throw SutureError.invalidArgument("tokens is \(count), more than can be counted") }
            try requireAgreement(trainers)
            let source = try other.map { try OtherRows($0, rows: rows.count, batch: batchSize) }
            if source == nil { for trainer in trainers { _ = try trainer.codePull(nil, rows: batchSize) } }
            var order = try begin(trainers, on: rows)
            let shared = trainers.count > 1 ? try SharedBatch(rows: batchSize, dIn: first.dIn) : nil
            let pulse = Pulse(progress, total: total)
            // From all rows, not from the first batch.
            for trainer in trainers { try trainer.startIfNeeded(rows, pulse: pulse) }
            var last: [TrainingMetrics] = []
            for index in 0..<stepCount {
                pulse.base = index * batchSize
                let drawn = order.next(batchSize)
                let batch = try shared.map { try $0.read(rows, drawn) }
                let codes = try source?.codes(drawn)
                last = try trainers.map { trainer in
                    let pull = try trainer.codePull(
                        codes, rows: batchSize, operations: source?.operations(tokens: batchSize) ?? 0)
                    let metrics = try trainer.step(
                        batch ?? rows, batch == nil ? drawn : Array(0..<batchSize), pull: pull, pulse: pulse)
                    trainer.order = order
                    trainer.running.keep(metrics)
                    return metrics
                }
                try pulse.endUpdate()
            }
            return taking ? zip(trainers, last).map { trainer, metrics in trainer.running.take(metrics) } : last
        }
    }

    /// Holds all of them for `body`.
    private static func exclusively<Result>(_ trainers: ArraySlice<Trainer>, _ body: () throws -> Result) throws
        -> Result
    {
        guard let first = trainers.first else { return try body() }
        return try first.exclusively { try exclusively(trainers.dropFirst(), body) }
    }

    private static func requireAgreement(_ trainers: [Trainer]) throws {
        guard let first = trainers.first else { return }
        func described(_ trainer: Trainer) -> [(name: String, value: UInt64)] {
            let (order, options) = (trainer.order, trainer.options)
            return [
                ("d_in", UInt64(trainer.dIn)), ("batch_size", UInt64(options.batchSize)), ("seed", options.seed),
                ("rows", UInt64(order?.rows ?? 0)), ("epoch", UInt64(order?.epoch ?? 0)),
                ("position in its epoch", UInt64(order?.position ?? 0)),
            ]
        }
        for (index, trainer) in trainers.enumerated() {
            for (own, expected) in zip(described(trainer), described(first)) where own.value != expected.value {
                throw SutureError.invalidArgument(
                    "trainers[\(index)] has \(own.name) \(own.value), expected \(expected.value) as trainers[0]")
            }
        }
    }

    /// Where in the rows the next step begins; takes a look at the rows where that is a new epoch.
    private static func begin(_ trainers: [Trainer], on rows: TokenRows) throws -> TokenOrder {
        guard let first = trainers.first else { throw SutureError.internal("no trainers") }
        var order: TokenOrder
        if let present = first.order, present.rows == rows.count {
            order = present
        } else {
            order = TokenOrder(
                rows: rows.count, dIn: first.dIn, seed: first.options.seed, epoch: first.order.map { $0.epoch + 1 } ?? 0
            )
        }
        if order.position == 0 || order.position == order.rows || first.data?.rows != rows.count {
            let data = try DataFingerprint(rows, dIn: first.dIn)
            for trainer in trainers { trainer.data = data }
        }
        for trainer in trainers { trainer.order = order }
        return order
    }

    /// Whether these are the rows that the trainer was trained on last.
    ///
    /// For the first run after `init(folder:)`: `run` itself takes any rows.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the difference, and if nothing was trained on.
    public func requireSameData(_ shards: [MatrixView]) throws {
        try exclusively {
            let rows = try TokenRows(shards, dIn: dIn) { "shards[\($0)]" }
            guard let data else {
                throw SutureError.invalidArgument("the trainer has not been run on rows yet, expected one that has")
            }
            guard rows.count == data.rows else {
                throw SutureError.invalidArgument(
                    "shards have \(rows.count) rows, expected the \(data.rows) that were trained on")
            }
            guard try DataFingerprint(rows, dIn: dIn) == data else {
                throw SutureError.invalidArgument(
                    "shards have other values than the \(data.rows) rows that were trained on, expected the same rows "
                        + "in the same order")
            }
        }
    }
}

/// The model that codes come from: its SAE, and its rows, row i of which goes with row i of those that are
/// trained on.
public struct OtherModel {
    let sae: SAE
    let shards: [MatrixView]

    public init(_ sae: SAE, _ shards: [MatrixView]) { (self.sae, self.shards) = (sae, shards) }
}

/// Its codes, batch by batch.
private struct OtherRows {
    private let sae: SAE
    private let rows: TokenRows
    private let batch: SharedBatch

    /// - Throws: `SutureError.invalidArgument` for another number of rows than is trained on.
    init(_ other: OtherModel, rows count: Int, batch size: Int) throws {
        sae = other.sae
        rows = try TokenRows(other.shards, dIn: sae.dIn) { "like_shards[\($0)]" }
        guard rows.count == count else {
            throw SutureError.invalidArgument("like_shards have \(rows.count) rows, expected \(count) as shards")
        }
        batch = try SharedBatch(rows: size, dIn: sae.dIn)
    }

    func codes(_ order: [Int]) throws -> SparseCodes { try sae.encode(batch.view(rows, order)) }

    /// Of their codes, as a dense encoder takes them.
    func operations(tokens: Int) -> Double { 2 * Double(sae.dIn) * Double(sae.dSAE) * Double(tokens) }
}

/// The rows of one batch as float32, for several trainers.
private struct SharedBatch {
    private let memory: Buffer<Float>
    private let rows: Int
    private let dIn: Int

    init(rows: Int, dIn: Int) throws {
        let (count, overflow) = rows.multipliedReportingOverflow(by: dIn)
        guard !overflow else { throw SutureError.outOfMemory("a batch of \(rows) x \(dIn) does not fit in memory") }
        memory = try Buffer(zeros: count)
        (self.rows, self.dIn) = (rows, dIn)
    }

    /// - Throws: `SutureError.invalidArgument` naming an element that is not finite.
    func read(_ source: TokenRows, _ order: [Int]) throws -> TokenRows {
        try TokenRows([view(source, order)], dIn: dIn) { _ in "the batch" }
    }

    func view(_ source: TokenRows, _ order: [Int]) throws -> MatrixView {
        let piece = 256
        let shared = Unchecked((source, memory.pointer, dIn, rows))
        try parallelFor((rows + piece - 1) / piece) { index in
            let (source, target, dIn, rows) = shared.value
            for row in index * piece..<min((index + 1) * piece, rows) {
                let place = target + row * dIn
                source.read(order[row], into: place)
                let bad = sk_first_nonfinite_f32(place, dIn)
                guard bad == dIn else { throw source.nonFinite(order[row], column: bad, value: place[bad]) }
            }
        }
        return MatrixView(
            base: UnsafeRawPointer(memory.pointer), rows: rows, cols: dIn, rowStride: dIn, type: .float32, owner: memory
        )
    }
}
