// SPDX-License-Identifier: Apache-2.0

extension Trainer {
    /// Steps of `batchSize` tokens until at least `count` are trained on, drawn in random order from
    /// all rows of all `shards` (each (N, d_in), N >= 1, of any element type), which are not copied.
    ///
    /// Every row is seen once an epoch, in an order that depends on the seed, the epoch, d_in and the
    /// number of rows (`TokenOrder`). A batch that an epoch has too few rows left for is completed
    /// from the next one. A later call goes on where this one stopped; if it brings another number of
    /// rows, it begins a new epoch on them.
    ///
    /// - Returns: means over the steps of this call; `dead` and `learningRate` as they are at the end.
    /// - Throws: as `step`; steps before the failing one stand.
    public func run(_ shards: [MatrixView], tokens count: Int, progress: Progress = .none) throws -> TrainingMetrics {
        try exclusively {
            let rows = try TokenRows(shards, dIn: dIn) { "shards[\($0)]" }
            guard !shards.isEmpty else { throw SutureError.invalidArgument("there are 0 shards, expected at least 1") }
            guard count >= 1 else { throw SutureError.invalidArgument("tokens is \(count), expected at least 1") }
            let stepCount = (count - 1) / options.batchSize + 1
            let (total, overflow) = stepCount.multipliedReportingOverflow(by: options.batchSize)
            guard !overflow else { throw SutureError.invalidArgument("tokens is \(count), more than can be counted") }
            if order?.rows != rows.count {
                order = TokenOrder(
                    rows: rows.count, dIn: dIn, seed: options.seed, epoch: order.map { $0.epoch + 1 } ?? 0)
            }
            let pulse = Pulse(progress, total: total)
            var sum = TrainingMetrics()
            for index in 0..<stepCount {
                guard var next = order else { break }
                pulse.base = index * options.batchSize
                let metrics = try step(rows, next.next(options.batchSize), pulse: pulse)
                order = next
                sum.loss += metrics.loss / Double(stepCount)
                sum.variance += metrics.variance / Double(stepCount)
                sum.l0 += metrics.l0 / Double(stepCount)
                sum.seconds += metrics.seconds
                (sum.steps, sum.tokens, sum.dead) = (metrics.steps, metrics.tokens, metrics.dead)
                sum.learningRate = metrics.learningRate
                try pulse.endUpdate()
            }
            return sum
        }
    }
}
