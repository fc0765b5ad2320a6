// SPDX-License-Identifier: Apache-2.0

/// A JSON value. Objects keep the order of their keys.
public indirect enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([(key: String, value: JSON)])

    public static func == (a: JSON, b: JSON) -> Bool {
        switch (a, b) {
        case (.null, .null): return true
        case (.bool(let a), .bool(let b)): return a == b
        case (.integer(let a), .integer(let b)): return a == b
        case (.number(let a), .number(let b)): return a == b
        case (.string(let a), .string(let b)): return a == b
        case (.array(let a), .array(let b)): return a == b
        case (.object(let a), .object(let b)):
            return a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
        default: return false
        }
    }
}

/// Looking into a value: nil where it is not of the kind asked for.
extension JSON {
    /// The member of an object.
    public subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    public var string: String? {
        if case .string(let text) = self { return text }
        return nil
    }

    public var bool: Bool? {
        if case .bool(let value) = self { return value }
        return nil
    }

    /// A whole number.
    public var integer: Int? {
        if case .integer(let value) = self { return Int(value) }
        return nil
    }

    /// Any number.
    public var double: Double? {
        switch self {
        case .integer(let value): return Double(value)
        case .number(let value): return value
        default: return nil
        }
    }

    /// An array of whole numbers that are not negative.
    var sizes: [Int]? {
        guard case .array(let elements) = self else { return nil }
        let sizes = elements.compactMap(\.integer)
        return sizes.count == elements.count && sizes.allSatisfy { $0 >= 0 } ? sizes : nil
    }
}

/// What is known about an object beside its numbers: an ordered set of named JSON values.
public struct Metadata: Sendable, Equatable {
    private var json: [(key: String, value: JSON)]

    public init() { json = [] }

    public init(_ members: [(key: String, value: JSON)]) {
        self.init()
        for (key, value) in members { self[key] = value }
    }

    /// From the text of a JSON object.
    ///
    /// - Parameter name: what the text is, for error messages.
    /// - Throws: `SutureError.format` where it is no JSON object.
    public init(parsing bytes: some Collection<UInt8>, name: String) throws {
        try self.init(parsing: bytes, name: name, depthLimit: JSON.depthLimit)
    }

    init(parsing bytes: some Collection<UInt8>, name: String, depthLimit: Int) throws {
        guard case .object(let members) = try JSON(parsing: bytes, name: name, depthLimit: depthLimit) else {
            throw SutureError.format("\(name) is not a JSON object")
        }
        self.init(unique: members)
    }

    /// Members of a parsed object, in which every key stands once.
    init(unique members: [(key: String, value: JSON)]) { json = members }

    public init(parsing text: String, name: String) throws {
        try self.init(parsing: Array(text.utf8), name: name)
    }

    public var members: [(key: String, value: JSON)] { json }

    /// As the text of a JSON object; `indent` as in `JSON.text`.
    public func text(indent: Int? = nil) -> String { JSON.object(json).text(indent: indent) }

    public static func == (a: Metadata, b: Metadata) -> Bool { JSON.object(a.json) == JSON.object(b.json) }

    /// Setting nil removes the key.
    public subscript(key: String) -> JSON? {
        get { json.first { $0.key == key }?.value }
        set {
            let position = json.firstIndex { $0.key == key }
            switch (newValue, position) {
            case (let value?, let position?): json[position].value = value
            case (let value?, nil): json.append((key, value))
            case (nil, let position?): json.remove(at: position)
            case (nil, nil): break
            }
        }
    }

    /// The text of a string value.
    public func text(_ key: String) -> String? { self[key]?.string }

    /// A whole number.
    public func integer(_ key: String) -> Int? { self[key]?.integer }
}
