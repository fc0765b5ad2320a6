// SPDX-License-Identifier: Apache-2.0

/// A linear classifier of activations: `logits = h weightsᵀ + bias`. With two classes there is one
/// output, above 0 for the second; with more, one a class, each against the rest.
public struct Probe: Sendable {
    /// (outputs, d_in)
    public let weights: FloatMatrix
    /// (1, outputs)
    public let bias: FloatMatrix
    /// Labels of the classes: texts, numbers or truth values.
    public let classes: [JSON]
    /// What is known about where it comes from: model_name, hook_name, …
    public var metadata: Metadata

    public var outputs: Int { weights.rows }
    public var dIn: Int { weights.cols }

    /// - Throws: `SutureError.invalidArgument` where shapes or the number of classes do not fit.
    public init(weights: FloatMatrix, bias: FloatMatrix, classes: [JSON]? = nil, metadata: Metadata = Metadata()) throws
    {
        let outputs = weights.rows
        guard outputs >= 1, outputs != 2, weights.cols >= 1 else {
            throw SutureError.invalidArgument(
                "weights is (\(outputs), \(weights.cols)), expected (1, d_in) for two classes or (classes, d_in) "
                    + "for three and more")
        }
        guard bias.rows == 1, bias.cols == outputs else {
            throw SutureError.invalidArgument(
                "bias is (\(bias.rows), \(bias.cols)), expected (1, \(outputs)), one for each row of weights")
        }
        let count = outputs == 1 ? 2 : outputs
        let labels = classes ?? (0..<count).map { .integer(Int64($0)) }
        guard labels.count == count else {
            throw SutureError.invalidArgument(
                "classes has \(labels.count) labels, expected \(count) for \(outputs) rows of weights")
        }
        // By the bytes of their texts: there may be very many, and texts that Unicode calls equivalent
        // are different labels.
        var seen: [[UInt8]: Int] = [:]
        for (i, label) in labels.enumerated() {
            switch label {
            case .string, .bool, .integer, .number: break
            default:
                throw SutureError.invalidArgument(
                    "classes[\(i)] is \(label.text()), expected a text, a number or a truth value")
            }
            if let j = seen.updateValue(i, forKey: Array(label.text().utf8)) {
                throw SutureError.invalidArgument(
                    "classes[\(i)] is \(label.text()) as classes[\(j)], expected each label once")
            }
        }
        (self.weights, self.bias, self.classes, self.metadata) = (weights, bias, labels, metadata)
    }
}
