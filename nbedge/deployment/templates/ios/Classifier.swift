// Written by nbedge. NOT COMPILED HERE: nbedge has no Xcode; compare with model.json's picture before you ship it.
// Needs the pod TensorFlowLiteSwift, and the folder's files in the app's bundle.

import CoreGraphics
import Foundation
import TensorFlowLite

/// What model.json says.
struct Model: Decodable {
    struct Tensor: Decodable {
        let dtype: String
        let scale: Double
        let zero_point: Int
    }
    struct Preprocessing: Decodable {
        let shape: [Int]  // channels, height, width
        let mean: [Double]
        let std: [Double]
    }
    struct File: Decodable {
        let file: String
        let head: String
        let preprocessing: Preprocessing
        let inputs: [Tensor]
        let outputs: [Tensor]
    }
    let classes: [String]
    let files: [File]
}

/// The network of model.json. One thread at a time may use it.
final class Classifier {
    private let model: Model
    private let file: Model.File
    private let interpreter: Interpreter

    init(bundle: Bundle = .main) throws {
        let about = bundle.url(forResource: "model", withExtension: "json")!
        model = try JSONDecoder().decode(Model.self, from: Data(contentsOf: about))
        file = model.files[0]
        interpreter = try Interpreter(modelPath: bundle.path(forResource: file.file, ofType: nil)!)
        try interpreter.allocateTensors()
    }

    /// Returns (class, probability), the likeliest first.
    func classify(_ image: CGImage) throws -> [(name: String, share: Double)] {
        let values = try outputs(image).map(Double.init)
        let shares = file.head == "softmax" ? values : softmax(values)
        return shares.enumerated()
            .map { (name: $0 < model.classes.count ? model.classes[$0] : "output \($0)", share: $1) }
            .sorted { $0.share > $1.share }
    }

    /// Returns the real outputs of the network.
    func outputs(_ image: CGImage) throws -> [Float] {
        let x = input(image)
        let entry = file.inputs[0], exit = file.outputs[0]
        let fed = entry.dtype == "float32" ? x.withUnsafeBufferPointer { Data(buffer: $0) } : quantized(x, entry)
        try interpreter.copy(fed, toInputAt: 0)
        try interpreter.invoke()
        let data = try interpreter.output(at: 0).data
        if exit.dtype == "float32" {
            return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        }
        let integers = exit.dtype == "uint8" ? data.map { Int($0) } : data.map { Int(Int8(bitPattern: $0)) }
        return integers.map { Float($0 - exit.zero_point) * Float(exit.scale) }
    }

    /// Returns (pixel / 255 - mean) / std, row by row, the channels of a pixel side by side.
    private func input(_ image: CGImage) -> [Float] {
        let how = file.preprocessing
        let channels = how.shape[0]
        let pixels = Pixels(image, channels: channels).resized(how.shape[2], how.shape[1])
        let scale = how.std.map { Float(1 / (255 * $0)) }
        let shift = zip(how.mean, how.std).map { Float(-$0 / $1) }
        return pixels.data.enumerated().map { i, value in
            // two roundings, as in Python: not one of a fused multiplication and addition
            let scaled = Float(value) * scale[i % channels]
            return scaled + shift[i % channels]
        }
    }

    /// Returns round(x / scale) + zero_point as bytes.
    private func quantized(_ x: [Float], _ spec: Model.Tensor) -> Data {
        let step = Float(spec.scale == 0 ? 1 : spec.scale)
        let signed = spec.dtype != "uint8"
        return Data(x.map { value in
            let whole = Int((value / step).rounded(.toNearestOrEven)) + spec.zero_point
            return signed ? UInt8(bitPattern: Int8(clamping: whole)) : UInt8(clamping: whole)
        })
    }

    private func softmax(_ values: [Double]) -> [Double] {
        let most = values.max() ?? 0
        let powers = values.map { exp($0 - most) }
        let total = powers.reduce(0, +)
        return powers.map { $0 / total }
    }
}

/// Pixels row by row, the channels of a pixel side by side; they are resized as Pillow does, with the same integers.
private struct Pixels {
    let width, height, channels: Int
    let data: [Int]

    init(width: Int, height: Int, channels: Int, data: [Int]) {
        (self.width, self.height, self.channels, self.data) = (width, height, channels, data)
    }

    init(_ image: CGImage, channels: Int) {
        let (width, height) = (image.width, image.height)
        var rgba = [UInt8](repeating: 0, count: width * height * 4)
        let space = image.colorSpace?.model == .rgb ? image.colorSpace! : CGColorSpaceCreateDeviceRGB()
        rgba.withUnsafeMutableBytes { bytes in
            let context = CGContext(
                data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
                space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        }
        let places = 0..<(width * height)
        let data: [Int] = channels == 1
            ? places.map { (Int(rgba[$0 * 4]) * 19595 + Int(rgba[$0 * 4 + 1]) * 38470 + Int(rgba[$0 * 4 + 2]) * 7471 + 0x8000) >> 16 }
            : places.flatMap { place in (0..<3).map { Int(rgba[place * 4 + $0]) } }
        self.init(width: width, height: height, channels: channels, data: data)
    }

    /// The integers depend on which comes first; the order is that of Pillow 13.
    func resized(_ wantedWidth: Int, _ wantedHeight: Int) -> Pixels {
        if height > wantedHeight && height - wantedHeight > 2 * (width - wantedWidth) {
            return transposed().resizedRows(wantedHeight).transposed().resizedRows(wantedWidth)
        }
        return resizedRows(wantedWidth).transposed().resizedRows(wantedHeight).transposed()
    }

    private func transposed() -> Pixels {
        var turned = data
        for y in 0..<height { for x in 0..<width { for c in 0..<channels {
            turned[(x * height + y) * channels + c] = data[(y * width + x) * channels + c]
        } } }
        return Pixels(width: height, height: width, channels: channels, data: turned)
    }

    /// Bilinear with antialiasing, weights of 22 bits after the point.
    private func resizedRows(_ wanted: Int) -> Pixels {
        if wanted == width { return self }
        var resized = [Int](repeating: 0, count: wanted * height * channels)
        let scale = Double(width) / Double(wanted)
        let support = max(scale, 1)
        for x in 0..<wanted {
            let centre = (Double(x) + 0.5) * scale
            let first = max(0, Int(centre - support + 0.5)), end = min(width, Int(centre + support + 0.5))
            let taps = (first..<end).map { max(0, 1 - abs((Double($0) - centre + 0.5) * (1 / support))) }
            let total = taps.reduce(0, +)
            let weights = taps.map { Int(0.5 + $0 / total * Double(1 << 22)) }
            for y in 0..<height { for c in 0..<channels {
                let sum = weights.indices.reduce(1 << 21) { $0 + data[(y * width + first + $1) * channels + c] * weights[$1] }
                resized[(y * wanted + x) * channels + c] = min(255, max(0, sum >> 22))
            } }
        }
        return Pixels(width: wanted, height: height, channels: channels, data: resized)
    }
}
