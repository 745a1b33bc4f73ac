// Package onnx is the child program that serves an ONNX model which an action
// describes, so that a model is served without code. [Program] loads the model with
// ONNX Runtime, turns arguments into tensors and tensors into an answer.
//
// # The onnx section of an action
//
// The section says how. Unknown keys are refused.
//
//	onnx:
//	  model: model            # a name in the action's files
//	  inputs:                 # by the model's own names
//	    x:
//	      image:              # made from a picture: PNG, JPEG, WebP or TIFF
//	        argument: image   # an argument of type file
//	        color: rgb        # rgb, bgr or gray
//	        resize: {mode: stretch, width: 224, height: 224, filter: bilinear}
//	        scale: 0.00392156862745098
//	        mean: [0.485, 0.456, 0.406]
//	        std: [0.229, 0.224, 0.225]
//	        layout: nchw      # nchw or nhwc
//	        max_pixels: 89478485
//	        max_bytes: 536870912
//	    y:
//	      tensor: {argument: y}
//	  output:
//	    classification: {tensor: probs, softmax: true, labels: {file: labels}, top: 5}
//
// # Pictures
//
// A picture is recognised by its bytes, turned upright as its EXIF orientation says,
// converted to color, resized and normalised: a sample v of 0 to 255 becomes
// (v·scale - mean) / std. mean and std are one number or one for each channel. Without
// these three keys samples stay as they are; a model that takes UINT8 gets them so. A
// picture is refused by its header when it has more than max_pixels, a side of more than
// 65535, or when decoding it would take more than max_bytes of memory.
//
// resize has the keys mode, width, height, min_width, max_width, wider, filter and pad:
//
//	mode: none      the picture's own size (the default)
//	mode: stretch   width × height
//	mode: fit       inside of width × height, in its middle, the rest is padded
//	mode: fill      width × height cut out of the middle
//	mode: height    to height, with the width that follows. What is left of min_width
//	                is padded on the right. A picture wider than max_width (4096 when
//	                missing) is refused, or squeezed with wider: squeeze
//
// Padding is 0 in the tensor, or the colour pad: [114, 114, 114]. The filters are
// nearest, box, bilinear (the default), hamming, bicubic and lanczos, with the results of
// Pillow up to version 12, bit for bit.
//
// # Tensors
//
// An input that is a tensor, or that is not listed, is an argument (of the input's own
// name when it is not listed): JSON, which is nested lists or {"data", "shape",
// "datatype"} with the datatypes of the Open Inference Protocol, or a file in .npy format
// (versions 1 to 3, C order). The elements must have the model's type, but for FP64 and
// INT64 in files, numpy's defaults, which become FP32 and INT32.
//
// # Answers
//
// output has one of three keys.
//
// classification answers {"label", "score", "labels": [{"label", "score"}, …]} with the
// top labels. softmax turns the output into probabilities.
//
// text_line decodes greedily what CTC trains and answers {"text", "score"}: the text
// without spaces at its ends, and the mean probability of its characters. Its keys are tensor, softmax,
// characters, space (true appends a space to the characters) and blank (first or last).
//
// tensors: [NAME, …] answers with these outputs, and without output there are all of
// them: {"NAME": {"datatype", "shape", "data"}}, the data flat and in row order, with
// null for what JSON cannot write. A single output may be asked for as
// application/x-npy.
//
// tensor names the output that is meant when the model has more than one. labels and
// characters are a list, the lines of {file: NAME}, or the lines of an entry of the
// model's own metadata, {metadata: KEY}.
//
// # Loading
//
// Optimising a model takes as long as loading it, so the optimised model is kept on disk
// and loaded from there the next time (on a CPU only). An inference uses one thread, which
// does not spin, unless the setup says otherwise.
package onnx
